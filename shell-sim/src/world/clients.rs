//! Between clients and nodes: the connections that carry requests and answers.

use super::probes::PROBE_HOSTS;
use super::{CLIENT_HOSTS, CONSOLE_HOST, OPERATOR_HOST, WATCHER_HOSTS, World};
use crate::check::{Violation, watch};
use crate::client::Sending;
use crate::model::network::{Fate, Host};
use raftkv_core::api::{Request, Response};
use raftkv_core::ids::ReqId;
use raftkv_core::io::Input;

/// What travels between a client and a node.
#[derive(Clone, Debug)]
pub(super) enum ClientFrame {
    /// A client asks.
    Ask { attempt: u64, request: Request },
    /// A client wants no answer any more.
    Leave { attempt: u64 },
    /// A node answers.
    Answer { attempt: u64, response: Response },
    /// The connection broke: no answer will come.
    Broken { attempt: u64 },
}

impl World {
    /// Lets every client that is due say what it wants.
    pub(super) fn let_clients_speak(&mut self) {
        for number in 0..self.clients.len() {
            while let Some(sending) = self.clients[number].poll(self.now, &mut self.history) {
                self.speak(Host(CLIENT_HOSTS + number as u32), sending);
            }
        }
        for number in 0..self.watchers.len() {
            while let Some(sending) = self.watchers[number].poll(self.now) {
                self.speak(Host(WATCHER_HOSTS + number as u32), sending);
            }
        }
    }

    /// Lets the operator say what it wants.
    pub(super) fn let_operator_speak(&mut self) {
        while let Some(sending) = self.operator.poll(self.now, &mut self.rng) {
            self.speak(Host(OPERATOR_HOST), sending);
            self.hear_operator();
        }
    }

    /// Delivers what has arrived on either side.
    pub(super) fn deliver_client_frames(&mut self) {
        while let Some(delivery) = self.wires.poll(self.now) {
            if delivery.to.0 < CLIENT_HOSTS {
                self.on_node_side(delivery.to.0 as usize, delivery.from, delivery.frame);
            } else {
                self.on_client_side(delivery.to, delivery.frame);
            }
        }
    }

    /// A node answers a request.
    pub(super) fn reply(
        &mut self,
        at: usize,
        req: ReqId,
        response: Response,
    ) -> Result<(), Violation> {
        self.overhear_answer(&response)?;
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        let goes_on = matches!(response, Response::Watch { .. });
        let was_running = match goes_on {
            true => !slot.running_watches.insert(req),
            false => slot.running_watches.remove(&req),
        };
        let is_excused = req.0 < slot.installed_before;
        if was_running && !is_excused {
            watch::undisturbed::check(node, &response)?;
        }
        let client = slot.requests.get(&req).copied();
        if !goes_on {
            slot.requests.remove(&req);
        }
        let Some((client, attempt)) = client else { return Ok(()) };
        let to = client.0;
        self.trace.line(self.now, node, "reply", format_args!("c{to} {attempt} {response:?}"));
        let frame = ClientFrame::Answer { attempt, response };
        let fate = self.wires.submit(self.now, Host(at as u32), client, frame);
        if fate != Fate::Sent && goes_on {
            // An answer does not get lost from the middle of a stream: the connection breaks.
            self.slots[at].requests.remove(&req);
            self.slots[at].inbox.push_back(Input::ClientGone { req });
        }
        Ok(())
    }

    /// Sends what a client wants sent.
    pub(super) fn speak(&mut self, from: Host, sending: Sending) {
        let (node, frame) = match sending {
            Sending::Ask { node, attempt, request } => {
                self.trace.line(
                    self.now,
                    format_args!("c{}", from.0),
                    "ask",
                    format_args!("n{} {attempt} {request:?}", node + 1),
                );
                (node, ClientFrame::Ask { attempt, request })
            }
            Sending::Leave { node, attempt } => (node, ClientFrame::Leave { attempt }),
        };
        if node < self.slots.len() {
            self.wires.submit(self.now, from, Host(node as u32), frame);
        }
    }

    fn on_node_side(&mut self, at: usize, client: Host, frame: ClientFrame) {
        let slot = &mut self.slots[at];
        match frame {
            ClientFrame::Ask { attempt, .. } if !slot.is_running() => {
                let broken = ClientFrame::Broken { attempt };
                self.wires.submit(self.now, Host(at as u32), client, broken);
            }
            ClientFrame::Ask { attempt, request } => {
                let req = ReqId(slot.next_request);
                slot.next_request += 1;
                slot.requests.insert(req, (client, attempt));
                slot.inbox.push_back(Input::Client { req, request });
            }
            ClientFrame::Leave { attempt } => {
                let left = slot.requests.iter().find(|(_, whose)| **whose == (client, attempt));
                if let Some((&req, _)) = left {
                    slot.requests.remove(&req);
                    slot.inbox.push_back(Input::ClientGone { req });
                }
            }
            ClientFrame::Answer { .. } | ClientFrame::Broken { .. } => {}
        }
    }

    fn on_client_side(&mut self, client: Host, frame: ClientFrame) {
        let (attempt, response) = match frame {
            ClientFrame::Answer { attempt, response } => (attempt, Some(response)),
            ClientFrame::Broken { attempt } => (attempt, None),
            ClientFrame::Ask { .. } | ClientFrame::Leave { .. } => return,
        };
        let (now, history) = (self.now, &mut self.history);
        if client.0 >= PROBE_HOSTS {
            self.probes.heard((client.0 - PROBE_HOSTS) as usize, attempt, response.as_ref());
        } else if client.0 == OPERATOR_HOST {
            self.operator.handle(now, attempt, response, &mut self.rng);
            self.hear_operator();
        } else if client.0 == CONSOLE_HOST {
            self.backups.handle(now, attempt, response);
        } else if client.0 >= WATCHER_HOSTS {
            let watcher = &mut self.watchers[(client.0 - WATCHER_HOSTS) as usize];
            match response {
                Some(response) => watcher.handle(now, attempt, response, history),
                None => watcher.handle_broken(now, attempt),
            }
        } else {
            let client = &mut self.clients[(client.0 - CLIENT_HOSTS) as usize];
            match response {
                Some(response) => client.handle(now, attempt, response, history),
                None => client.handle_broken(now, attempt, history),
            }
        }
    }
}
