//! `member`: who belongs to the cluster.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::node::MembersView;
use clap::Subcommand;
use raftkv_core::api::Request;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Member {
    /// List the members
    List,
    /// Add a member: a voter once it has caught up
    Add {
        /// Its number
        id: u32,
        /// Where it listens
        #[arg(value_name = "HOST:PORT")]
        address: String,
        /// It stays a learner, without a vote
        #[arg(long)]
        learner: bool,
    },
    /// Make a learner a voter
    Promote {
        /// Its number
        id: u32,
    },
    /// Remove a member
    Remove {
        /// Its number
        id: u32,
    },
}

/// Runs it. Changes print the members as they are afterwards.
pub async fn run(context: &Context, member: Member) -> Result<(), Failure> {
    let client = context.client().await?;
    let change = match member {
        Member::List => None,
        Member::Add { id, address, learner } => {
            Some(Request::MemberAdd { member: id, address, learner })
        }
        Member::Promote { id } => Some(Request::MemberPromote { member: id }),
        Member::Remove { id } => Some(Request::MemberRemove { member: id }),
    };
    if let Some(change) = change {
        client.administer(change).await?;
    }
    context.print(&MembersView::new(&client.members().await?))
}
