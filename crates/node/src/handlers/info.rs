//! `Info`: who this node is. The only method without a client certificate, and so without a record:
//! anybody could fill the disk with records of it.

use quorate_authz::Caller;
use quorate_wire::Versions;
use quorate_wire::proto::v1;

use crate::access::{PINNED, ROSTER};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;

pub(crate) struct Ready {
    reply: v1::InfoReply,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    _caller: Option<&Caller>,
    _request: &v1::InfoRequest,
) -> Result<Ready, Stop> {
    let (pinned, roster) = (RowKey::cluster(PINNED), RowKey::cluster(ROSTER));
    let (pinned, roster) = (reads.row(&pinned), reads.row(&roster));
    let reply = v1::InfoReply {
        node: Some(core.entry.to_proto()),
        roster: roster?.bytes().unwrap_or_default().to_vec(),
        cluster: pinned?.bytes().unwrap_or_default().to_vec(),
        time: 0,
        protocols: Versions::SPOKEN.numbers().collect(),
        software: String::new(),
    };
    Ok(Ready { reply })
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let software = deciding.facts.software.clone();
        let reply = v1::InfoReply { time: deciding.now.0, software, ..self.reply };
        Ok(Decision::reply(Reply::Info(reply)))
    }
}
