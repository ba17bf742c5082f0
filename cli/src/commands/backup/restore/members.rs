//! The members of the new cluster, as the operator names them.

use crate::failure::{Exit, Failure};
use raftkv_core::api::{MemberInfo, MemberRole};
use raftkv_core::ids::NodeId;
use std::collections::BTreeMap;
use std::fmt;

/// The members, and which one the directory is for.
#[derive(Debug)]
pub struct Members {
    all: Vec<MemberInfo>,
    this: usize,
}

/// Parses `1=a:7400,2=b:7400`; without it the node is alone and listens at `listen`.
pub fn parse(cluster: Option<&str>, id: u32, listen: &str) -> Result<Members, Failure> {
    match cluster {
        Some(cluster) => parse_list(cluster, Some(id)),
        None => parse_list(&format!("{id}={listen}"), Some(id)),
    }
}

/// Parses `1=a:7400,2=b:7400`. Without an `id` the directory is for the member with the lowest one.
pub fn parse_list(cluster: &str, id: Option<u32>) -> Result<Members, Failure> {
    let bad = |what: String| Failure::new(Exit::Usage, what);
    let mut addresses = BTreeMap::new();
    for part in cluster.split(',') {
        let member = part.split_once('=').and_then(|(number, address)| {
            let number: u32 = number.trim().parse().ok().filter(|number| *number > 0)?;
            let (host, port) = address.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok()).then_some((number, address))
        });
        let Some((number, address)) = member else {
            return Err(bad(format!(
                "--initial-cluster: {part:?} is not ID=HOST:PORT, with an id from 1"
            )));
        };
        if addresses.values().any(|other| *other == address) {
            return Err(bad(format!("--initial-cluster: {address} is named twice")));
        }
        if addresses.insert(number, address).is_some() {
            return Err(bad(format!("--initial-cluster: member {number} is named twice")));
        }
    }
    let this = match id {
        None => 0,
        Some(id) => {
            let place = addresses.keys().position(|number| *number == id);
            let missing = || bad(format!("--id {id} is not in --initial-cluster {cluster}"));
            place.ok_or_else(missing)?
        }
    };
    let all = addresses.into_iter().map(|(number, address)| MemberInfo {
        node: NodeId::new(number, 0),
        address: address.to_owned(),
        role: MemberRole::Voter,
    });
    Ok(Members { all: all.collect(), this })
}

impl Members {
    /// The one the directory is for.
    pub fn this(&self) -> &MemberInfo {
        &self.all[self.this]
    }

    /// The others, by number.
    pub fn others(&self) -> impl Iterator<Item = &MemberInfo> {
        self.all.iter().enumerate().filter(|(place, _)| *place != self.this).map(|(_, other)| other)
    }

    /// The same member, alone.
    pub fn alone(&self) -> Members {
        Members { all: vec![self.this().clone()], this: 0 }
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<MemberInfo> {
        self.all.clone()
    }
}

/// As they may be typed.
impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, member) in self.all.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", member.node.member(), member.address)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_in_order_whatever_was_typed() {
        let members = parse(Some("3=c:3,1=a:1,2=[::1]:2"), 2, "").unwrap();
        let numbers: Vec<u32> = members.all().iter().map(|member| member.node.member()).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(members.this().address, "[::1]:2");
        assert_eq!(members.to_string(), "1=a:1,2=[::1]:2,3=c:3");
        let others: Vec<u32> = members.others().map(|member| member.node.member()).collect();
        assert_eq!(others, [1, 3]);
        assert_eq!(members.alone().all(), [members.this().clone()]);
        assert_eq!(parse_list("3=c:3,2=b:2", None).unwrap().this().node, NodeId::new(2, 0));
        assert_eq!(parse(None, 7, "h:1").unwrap().this().node, NodeId::new(7, 0));
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for (cluster, id) in [
            ("1=a:1", 2),
            ("1=a:1,1=b:2", 1),
            ("1=a:1,2=a:1", 1),
            ("0=a:1", 0),
            ("1=a", 1),
            ("1=:1", 1),
            ("a:1", 1),
            ("", 1),
        ] {
            assert_eq!(parse(Some(cluster), id, "").unwrap_err().exit(), Exit::Usage, "{cluster}");
        }
    }
}
