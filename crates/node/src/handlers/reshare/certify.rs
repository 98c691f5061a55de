//! `PutCertificate` of a reshare, and of a DKG that this node took no part in: a complete certificate of a higher rank makes its generation the one in use,
//! and everything lower is erased.

use quorate_authz::Caller;
use quorate_documents::{Certificate, Key, Order, Statement};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode, Verified};

use super::check;
use super::generations::{Generations, OrderDocuments, Taken, order_documents};
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::KeyRules;
use crate::step::Write;

pub(crate) struct Ready<'a> {
    core: &'a NodeCore,
    account: Account,
    root: Option<Envelope>,
    envelope: Envelope,
    statement: Statement,
    rules: KeyRules,
    generations: Generations,
    orders: OrderDocuments,
    /// What becomes of the lists of open sessions.
    places: Vec<Write>,
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::CertificateInvalid, message)
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::PutCertificateRequest,
    (envelope, statement): (Envelope, Statement),
) -> Result<Ready<'a>, Stop> {
    let (id, version) = (statement.key(), statement.version());
    let heads = reads.row(&RowKey::heads(id.into()));
    let generations = Generations::gather(reads, id, version);
    let orders = order_documents(reads, id);
    let account = Account::gather(core, reads, caller, &request.node)?;
    let key = rows::heads::<Key>(heads?)?;
    let rules = KeyRules::gather(core, reads, &account, Some(id), key)?;
    let (generations, orders) = (generations?, orders?);
    // Whoever may not know of the key must not learn by what is read that sessions are open for it.
    let places =
        if rules.known_to(&account) { generations.places_given_back(reads)? } else { Vec::new() };
    let root = request.root.clone();
    Ok(Ready { core, account, root, envelope, statement, rules, generations, orders, places })
}

/// Whether the envelope carries a valid signature of an identity key of this node, whatever its other
/// signatures are.
pub(crate) fn in_own_name(core: &NodeCore, envelope: &Envelope) -> bool {
    let own = |key: &[u8]| core.identities.iter().any(|i| i.public().as_bytes() == key);
    envelope.signatures.iter().filter(|signature| own(&signature.key)).any(|signature| {
        let alone = Envelope { signatures: vec![signature.clone()], ..envelope.clone() };
        Verified::new(PayloadType::Certificate, alone).is_ok()
    })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { core, account, root, envelope, statement, rules, generations, orders, places } =
            self;
        let (id, version) = (statement.key(), statement.version());
        deciding.audit.key = id.as_bytes().to_vec();
        deciding.audit.key_version = version.get();
        deciding.audit.subject = statement.generation().as_bytes().to_vec();
        let standing = account.standing(deciding);
        let orders = rules.key().and_then(|key| orders.of(key, version));
        let newest = orders.as_ref().and_then(|orders| orders.newest().ok());
        let higher =
            generations.highest().is_none_or(|it| statement.rank() > it.statement().rank());
        // What was signed and then erased for something higher is no forgery, nor what a node has forgotten
        // that an order lets in without its share, or whose data come from a backup.
        let enters = newest.is_some_and(|order| order.enters(&core.id()));
        let forged = higher
            && !enters
            && !generations.may_have_forgotten()
            && !generations.promised(&envelope.payload);
        if forged && in_own_name(core, &envelope) {
            let message = "the certificate carries this node's signature over a statement that it \
                           never signed";
            return Err(Refused::new(RefusalCode::CertificateForged, message));
        }
        let standing = standing?;
        let now = deciding.now;
        // Anybody who may see the key may deliver its certificate: the signatures count.
        rules.ask(deciding.audit, |access| quorate_authz::read_key(&standing, access, now))?;
        rules.exists()?;
        let orders = orders.as_ref().ok_or_else(|| {
            let message = format!("the key has no version {version}");
            Refused::new(RefusalCode::KeyVersionUnknown, message)
        })?;
        if let Some(highest) = generations.highest().filter(|_| !higher) {
            return Ok(Decision::reply(Reply::PutCertificate(v1::PutCertificateReply {
                generation: highest.statement().generation().as_bytes().to_vec(),
                ancestor_copied: generations.ancestor_copied(),
                lost_order: generations.lost_order(),
                erasing: deciding.facts.erasing,
            })));
        }
        let taken = |mut taken: Taken| {
            taken.writes.extend(places.iter().cloned());
            let reply = v1::PutCertificateReply {
                generation: statement.generation().as_bytes().to_vec(),
                ancestor_copied: taken.ancestor_copied,
                lost_order: taken.lost_order,
                // Whether the erasure is finished by the time of the answer, the shell says.
                erasing: false,
            };
            Decision { reply: Reply::PutCertificate(reply), writes: taken.writes }
        };
        let member = newest.is_some_and(|order| order.member(&core.id()).is_some());
        if !member && !generations.any() && statement.participant(&core.id()).is_none() {
            return Err(invalid("this node has no part in the key version"));
        }
        if statement.parent().is_none() {
            // Who took part in the DKG goes the other way, by what it has signed.
            if !member {
                return Err(invalid("this node has no part in the key version"));
            }
            let verified = Certificate::verify(envelope, id, version, orders.first())
                .map_err(|error| invalid(error.to_string()))?;
            check::parent(verified.statement())?;
            return Ok(taken(generations.take(core.id(), &verified, None, now)));
        }
        let root = match (generations.root(), root) {
            (Some(root), _) => root.clone(),
            (None, Some(root)) => Certificate::verify(root, id, version, orders.first())
                .map_err(|error| invalid(format!("the DKG's certificate: {error}")))?,
            (None, None) => {
                return Err(invalid("this node does not have the DKG's certificate; bring it too"));
            }
        };
        let dealt_by = statement.order();
        // What this node has signed it signed because the order counted, whatever a tenant's next version kept of it.
        let signed = |_: &&Order| generations.promised(&envelope.payload);
        let lost = || orders.lost(&dealt_by).filter(signed);
        let order = orders.find(&dealt_by).or_else(lost).ok_or_else(|| {
            invalid("the certificate's order is none that counts at this node; bring it first")
        })?;
        let verified = Certificate::verify_reshare(envelope, order, root.statement())
            .map_err(|error| invalid(error.to_string()))?;
        check::parent(verified.statement())?;
        Ok(taken(generations.take(core.id(), &verified, Some(&root), now)))
    }
}
