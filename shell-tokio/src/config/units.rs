//! The text forms of values: numbers, sizes (`64MiB`), times (`10s`), addresses. Each error says what is allowed.

use super::LogFormat;
use raftkv_core::time::Span;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A whole number.
pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

/// A whole number from 1.
pub fn count(text: &str) -> Result<usize, String> {
    match number(text)? {
        0 => Err("0 is not allowed: a whole number from 1".into()),
        count => usize::try_from(count).map_err(|_| format!("{text} is too large")),
    }
}

/// A member's number.
pub fn member(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("members are numbered from 1".into()),
        Ok(member) => Ok(member),
        Err(_) => {
            Err(format!("{text:?} is not a member number: a whole number from 1 to {}", u32::MAX))
        }
    }
}

/// A size: a number with `KiB`, `MiB`, `GiB`, or of bytes.
pub fn bytes(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("{text:?} is not a size: a whole number with KiB, MiB or GiB, such as 64MiB");
    let (digits, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let size: usize = digits.parse().map_err(|_| wrong())?;
    match size.checked_mul(1 << shift) {
        Some(0) | None => Err(wrong()),
        Some(size) => Ok(size),
    }
}

/// The size of a log segment: small enough to be read at once.
pub fn segment(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        size if (1 << 20..=1 << 30).contains(&size) => Ok(size),
        _ => Err(format!("{text} is not from 1MiB to 1GiB")),
    }
}

/// A time: a number with `ms`, `s`, `m` or `h`.
pub fn span(text: &str) -> Result<Span, String> {
    let wrong =
        || format!("{text:?} is not a time: a whole number with ms, s, m or h, such as 10s");
    let (digits, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let amount: u64 = digits.parse().map_err(|_| wrong())?;
    match amount.checked_mul(millis) {
        Some(millis @ 1..=31_536_000_000) => Ok(Span::from_millis(millis)),
        _ => Err(wrong()),
    }
}

/// Yes or no.
pub fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

/// A path; not empty.
pub fn path(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() {
        true => Err("a path is needed".into()),
        false => Ok(text.into()),
    }
}

/// An address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let literal = text.replace("localhost:", "127.0.0.1:");
    literal.parse().map_err(|_| {
        format!(
            "{text:?} is not an address: an IP and a port, such as 127.0.0.1:7400 or [::1]:7400"
        )
    })
}

/// An address to be reached at.
pub fn host_port(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not host:port, such as db1.example:7400");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let plain =
        host.starts_with('[') && host.ends_with(']') || !host.contains([':', '=', ' ', '/']);
    if text.parse().is_ok_and(|address: SocketAddr| address.ip().is_unspecified()) {
        return Err(format!("{text:?} means every address of a machine: name one"));
    }
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() && plain => Ok(text.to_owned()),
        _ => Err(wrong()),
    }
}

/// A list of addresses, by commas; may be empty.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    items(text).map(host_port).collect()
}

/// A list of numbered members; may be empty. Sorted by number.
pub fn members(text: &str) -> Result<Vec<(u32, String)>, String> {
    let mut members = Vec::new();
    for item in items(text) {
        let (id, address) = item.split_once('=').ok_or_else(|| {
            format!("{item:?} is not number=host:port, such as 1=db1.example:7400")
        })?;
        members.push((member(id.trim())?, host_port(address.trim())?));
    }
    members.sort();
    for pair in members.windows(2) {
        if pair[0].0 == pair[1].0 {
            return Err(format!("member {} is named twice", pair[0].0));
        }
    }
    let mut addresses: Vec<_> = members.iter().map(|(_, address)| address).collect();
    addresses.sort();
    match addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("address {} is named twice", pair[0])),
        None => Ok(members),
    }
}

/// How log lines look.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}

/// Which log lines are written.
pub fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{text:?} is not error, warn, info, debug, trace, or a filter such as info,quinn=debug: {error}"
        )),
    }
}

/// Nothing, for an empty text.
pub fn optional<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("5 KiB"), Ok(5 << 10));
        assert_eq!(bytes("7"), Ok(7));
        assert!(
            ["", "0", "MiB", "1.5MiB", "64MB", "99999999999GiB"].iter().all(|t| bytes(t).is_err())
        );
        assert_eq!(span("10s"), Ok(Span::from_millis(10_000)));
        assert!(["", "0s", "10", "s", "-1s", "999999999h"].iter().all(|t| span(t).is_err()));
    }

    #[test]
    fn addresses_name_a_port() {
        assert!(["h:1", "127.0.0.1:7400", "[::1]:7400"].iter().all(|t| host_port(t).is_ok()));
        assert!(
            ["h", "h:", ":1", "h:0", "h:70000", "::1:7400", "a=b:1", "0.0.0.0:1", "[::]:1"]
                .iter()
                .all(|t| host_port(t).is_err())
        );
        assert_eq!(address("localhost:7400"), Ok("127.0.0.1:7400".parse().unwrap()));
        assert!(address("db1.example:7400").is_err());
    }
}
