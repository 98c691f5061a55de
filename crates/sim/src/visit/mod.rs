//! Visitors: when a run is over, somebody comes with what no ceremony asks, and says what the right answer is.
//!
//! Hostile coordinators ([`crate::coordinator`]) begin with ceremonies and change something in them. What a
//! [`Strategy`] here needs are other documents, more time, more sessions or stolen keys: a contested tenant, a key that
//! may have no shares, a roster that gives a node another identity key, a session table that is full, an order whose
//! attempts are used up, a certificate in a node's own name. One honest node of the run is visited, by whoever the
//! strategy says; some visitors ask a coordinator, a client or the library of schemes instead. Nothing of the run before
//! depends on the visit, which is drawn last and comes last.

use quorate_documents::{DocumentError, SignedDocument};
use quorate_node::{Outcome, Reply, Request, Table};
use quorate_types::{Digest, NodeId, SessionId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PublicKey, RefusalCode};
use rand_chacha::ChaCha20Rng;

use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::invariants::{Invariant, Judge};
use crate::log::Log;
use crate::network::Guise;
use crate::node::SimNode;
use crate::reference::{Reference, Said};

mod certificates;
mod client;
mod coordinators;
mod documents;
mod draw;
mod floods;
mod library;
mod messages;
mod puppet;
mod sessions;

macro_rules! strategies {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $visit:path;)*) => {
        /// What a visitor comes with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Strategy { $($(#[$doc])* $name,)* }

        impl Strategy {
            /// All strategies.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn visit(self, visitor: &mut Visitor<'_>) -> Visited {
                match self { $(Self::$name => $visit(visitor),)* }
            }
        }
    };
}

strategies! {
    /// A session while two rosters, or two documents of the tenant, contend.
    Contested, "contested documents", documents::contested;
    /// A session of a key that is held back, or may not be used any more.
    Withheld, "key without new shares", documents::withheld;
    /// A session of a committee in which the roster has another identity key for a node.
    Replaced, "replaced member", documents::replaced;
    /// A session of a key whose shares may not be held where the nodes are.
    Jurisdiction, "outside the jurisdictions", documents::jurisdiction;
    /// Another tenant's principal asks for a key of a tenant that is suspended.
    Suspended, "suspended tenant's key", documents::suspended;
    /// Another tenant's principal asks for versions, keys and sessions that there are, and for others.
    Unknown, "foreign and unknown keys", documents::unknown;
    /// A session for a node that has lost the identity key that the order gives it.
    OtherIdentity, "node with another identity", documents::other_identity;
    /// One more session of a key version that the node has signed for.
    OnceSigned, "another session once signed", sessions::once_signed;
    /// A session that was dealt in and is pruned, opened once more.
    Reopened, "pruned session again", sessions::reopened;
    /// One session more than the order has attempts.
    UsedUp, "attempts used up", sessions::used_up;
    /// The same question once more, after a session was signed and after its certificate came.
    Again, "asks again", sessions::again;
    /// As many sessions as one principal, and as one tenant, may have; and one more.
    FloodByNumber, "flood by number", floods::by_number;
    /// Sessions of the largest committee, as many as one tenant, and as all, may have room for; and one more.
    FloodByBytes, "flood by bytes", floods::by_bytes;
    /// The node's own messages, signed by whoever stole its identity key, in place of those that it sent.
    OwnMessages, "own messages changed", messages::own;
    /// A dealer's round 1 for another session, order, index, suite or round 0, brought to the node.
    Misfit, "misfit round 1 relayed", messages::misfit;
    /// A participant's receive key is the identity, of which everybody can prove knowledge.
    IdentityKey, "identity receive key", messages::identity;
    /// Two participants have one receive key, and both know it.
    SharedKey, "shared receive key", messages::shared;
    /// Participants that know an honest dealer's constant deal so that the key is zero.
    CancelledKey, "cancels the key", messages::cancelled;
    /// A Merkle path where the tree has one leaf.
    LongPath, "path in a tree of one", messages::long_path;
    /// A certificate in the node's own name, signed by whoever stole its identity key.
    Forged, "forged in the node's name", certificates::forged_in_name;
    /// The same, at a node that has another identity key since.
    OldIdentity, "forged with an old identity", certificates::old_identity;
    /// A certificate, at a node of which a row is damaged.
    Damaged, "damaged transcript", certificates::damaged;
    /// A client is shown the certificate of another key or order.
    OtherKeys, "another key's certificate", certificates::other_keys;
    /// A coordinator is given a session that is not of its order.
    OtherTerms, "session of another order", coordinators::other_terms;
    /// A participant gives a coordinator that finishes a statement of another key, or of no committee.
    OtherStatement, "finishes another statement", coordinators::other_statement;
    /// A participant accuses a dealer with evidence of another session, or with a good round 0.
    OtherEvidence, "evidence of something else", coordinators::other_evidence;
    /// Nodes answer a client twice, unasked, with a byte too many, or with the identity.
    Answers, "answers of the wrong shape", client::answers;
    /// The library is asked for sessions that are none.
    NoSession, "sessions that are none", library::sessions;
    /// The library is given another participant's receive key, or message.
    NoKey, "another's receive key", library::keys;
    /// The library is asked for evidence where there is none.
    NoEvidence, "evidence where there is none", library::accusations;
}

impl Strategy {
    /// Whether it asks hundreds of times.
    #[must_use]
    pub const fn takes_long(self) -> bool {
        matches!(self, Self::FloodByNumber | Self::FloodByBytes)
    }
}

/// Why a visit came to its end early.
#[derive(Debug)]
enum Stop {
    /// Its documents are not valid, or the node does not take them: a defect of the simulator.
    Defect(String),
    /// An answer was wrong, which is reported, and what follows from it cannot be asked.
    Shown,
}

impl From<DocumentError> for Stop {
    fn from(error: DocumentError) -> Self {
        Self::Defect(error.to_string())
    }
}

type Visited = Result<(), Stop>;

/// Something of the simulator's own making that is not as it should be.
fn defect(what: &str) -> Stop {
    Stop::Defect(what.to_owned())
}

/// In whose name a visitor asks.
#[derive(Debug, Clone, Copy)]
enum By {
    Courier,
    Owner,
    Foreigner,
    Other(PublicKey),
}

/// What the right answer is.
#[derive(Debug, Clone, Copy)]
enum Right {
    Yes,
    /// No, with this code, and these words in the message.
    No(RefusalCode, &'static str),
}

/// One visit, and what it is paid with.
pub(crate) struct Visitor<'a> {
    pub(crate) rng: &'a mut ChaCha20Rng,
    pub(crate) cluster: &'a Cluster,
    /// The honest nodes.
    pub(crate) nodes: Vec<(NodeId, &'a mut SimNode)>,
    /// Which of them is visited.
    pub(crate) at: usize,
    pub(crate) keys: &'a mut Vec<OrderedKey>,
    pub(crate) judge: &'a mut Judge,
    pub(crate) reference: &'a mut Reference,
    pub(crate) log: &'a mut Log,
    pub(crate) sequence: &'a mut u64,
    /// Milliseconds since the beginning.
    pub(crate) now: u64,
    /// Rosters that came since, and keys.
    rosters: Vec<SignedDocument>,
    documents: Vec<SignedDocument>,
    fired: u64,
}

/// What a visitor needs of the world; all honest nodes, of which one is visited.
pub(crate) struct World<'a> {
    pub(crate) rng: &'a mut ChaCha20Rng,
    pub(crate) cluster: &'a Cluster,
    pub(crate) nodes: Vec<(NodeId, &'a mut SimNode)>,
    pub(crate) at: usize,
    pub(crate) keys: &'a mut Vec<OrderedKey>,
    pub(crate) judge: &'a mut Judge,
    pub(crate) reference: &'a mut Reference,
    pub(crate) log: &'a mut Log,
    pub(crate) sequence: &'a mut u64,
    pub(crate) now: u64,
}

/// Pays one visit. Says how often something was asked that no honest visitor asks.
pub(crate) fn pay(strategy: Strategy, world: World<'_>) -> u64 {
    let World { rng, cluster, nodes, at, keys, judge, reference, log, sequence, now } = world;
    let (rosters, documents, fired) = (Vec::new(), Vec::new(), 0);
    let mut visitor = Visitor {
        rng,
        cluster,
        nodes,
        at,
        keys,
        judge,
        reference,
        log,
        sequence,
        now,
        rosters,
        documents,
        fired,
    };
    visitor.log.event(now, format_args!("visitor: {}", strategy.name()));
    if let Err(Stop::Defect(what)) = strategy.visit(&mut visitor) {
        let what = format!("{}: {what}", strategy.name());
        visitor.judge.report(Invariant::NodeWorks, what);
    }
    visitor.fired
}

impl Visitor<'_> {
    fn time(&self) -> UnixSeconds {
        EPOCH.plus(self.now / 1000)
    }

    /// Who is visited.
    fn id(&self) -> NodeId {
        self.nodes.get(self.at).map_or(NodeId::from_bytes([0; 16]), |(id, _)| *id)
    }

    fn node(&mut self) -> Result<&mut SimNode, Stop> {
        let (_, node) = self.nodes.get_mut(self.at).ok_or_else(|| defect("nobody is honest"))?;
        Ok(node)
    }

    fn roster(&self) -> Digest {
        self.rosters.last().unwrap_or(&self.cluster.newest).digest()
    }

    /// Gives documents to the node that is visited.
    fn give(&mut self, documents: &[&SignedDocument]) -> Visited {
        let request = v1::PutDocumentsRequest {
            node: self.id().as_bytes().to_vec(),
            documents: documents.iter().map(|document| document.envelope().clone()).collect(),
        };
        let refusal = match self.ask(By::Owner, &Request::PutDocuments(request))? {
            Ok(Reply::PutDocuments(reply)) => reply.results.into_iter().find_map(|r| r.refusal),
            Ok(_) => return Err(defect("another reply")),
            Err(refusal) => Some(*refusal),
        };
        match refusal {
            Some(refusal) => Err(Stop::Defect(refusal.message)),
            None => Ok(()),
        }
    }

    /// The node's answer, compared with all that it may answer at all.
    fn ask(&mut self, by: By, request: &Request) -> Result<Outcome, Stop> {
        let (now, id) = (self.time(), self.id());
        let (guise, caller) = match by {
            By::Courier => (Guise::Own, self.cluster.courier.public()),
            By::Owner => (Guise::Own, self.cluster.owner.public()),
            By::Foreigner => (Guise::Foreigner, self.cluster.foreigner.public()),
            By::Other(key) => (Guise::Own, key),
        };
        *self.sequence += 2;
        let (began, ended) = (*self.sequence - 1, *self.sequence);
        let (_, node) = self.nodes.get_mut(self.at).ok_or_else(|| defect("nobody is honest"))?;
        let certificates = node.store().count(Table::Certificates);
        let outcome = node
            .ask(caller, request.clone(), now, self.rng)
            .map_err(|error| Stop::Defect(error.to_string()))?;
        self.judge.note_transcripts(id, node, self.keys);
        if let Request::PutCertificate(request) = request
            && node.store().count(Table::Certificates) > certificates
        {
            self.judge.took_certificate(id, request);
        }
        let said = Said { node: id, guise, now, began, ended, request, outcome: &outcome };
        for (invariant, detail) in self.reference.saw(self.keys, &said) {
            self.judge.report(invariant, detail);
        }
        match &outcome {
            Ok(Reply::DkgSign(v1::DkgSignReply { statement: Some(statement), .. })) => {
                self.judge.saw_signature(id, statement);
            }
            Ok(Reply::DkgDeal(v1::DkgDealReply { round1: Some(round1), .. })) => {
                self.judge.saw_dealing(id, round1);
            }
            Err(refusal) => {
                let honest: Vec<NodeId> = self.nodes.iter().map(|(id, _)| *id).collect();
                if let Some(evidence) = &refusal.evidence {
                    self.judge.saw_evidence(self.keys, evidence, id, &honest);
                }
            }
            Ok(_) => {}
        }
        let what = outcome.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "yes");
        self.log.event(self.now, format_args!("visitor asks {}: {what}", request.method()));
        Ok(outcome)
    }

    /// Asks, and says whether the answer is the right one.
    fn demand(&mut self, by: By, request: &Request, right: Right) -> Result<Option<Reply>, Stop> {
        let outcome = self.ask(by, request)?;
        self.fired += u64::from(!matches!(right, Right::Yes));
        let method = request.method();
        match (outcome, right) {
            (Ok(reply), Right::Yes) => Ok(Some(reply)),
            (Ok(_), Right::No(code, _)) => {
                let what = format!("{method}: yes, and not {}", code.code());
                self.judge.report(Invariant::AcceptsWhatFits, what);
                Err(Stop::Shown)
            }
            (Err(refusal), Right::No(code, words))
                if refusal.code == code.code() && refusal.message.contains(words) =>
            {
                Ok(None)
            }
            (Err(refusal), right) => {
                let what = format!("{method}: {}: {}; {right:?}", refusal.code, refusal.message);
                self.judge.report(Invariant::RefusesWithReason, what);
                Err(Stop::Shown)
            }
        }
    }

    /// As [`Visitor::demand`], where nothing else follows from it.
    fn refused(
        &mut self,
        by: By,
        request: &Request,
        code: RefusalCode,
        words: &'static str,
    ) -> Visited {
        self.demand(by, request, Right::No(code, words)).map(drop)
    }

    /// What a coordinator or a client makes of something.
    fn concludes(&mut self, right: bool, what: &str) {
        self.fired += 1;
        if !right {
            self.judge.report(Invariant::ClientsTakeWhatFits, what);
        }
    }

    /// What a library makes of something by itself, where a node or a coordinator compares it before.
    fn stands_alone(&mut self, right: bool, what: &str) {
        self.fired += 1;
        if !right {
            self.judge.report(Invariant::LibrariesStandAlone, what);
        }
    }

    /// A fresh session of a key version.
    fn session(&mut self, key: &OrderedKey) -> v1::Session {
        let (id, version, roster) = (key.id, key.version, self.roster());
        let order = &key.order;
        quorate_coordinator::ceremony::new_session(id, version, order, roster, 1, self.rng)
    }

    fn open(&self, session: &v1::Session) -> Request {
        let node = self.id().as_bytes().to_vec();
        Request::DkgOpen(v1::DkgOpenRequest { node, session: Some(session.clone()) })
    }

    fn deal(&self, session: SessionId, round0: &[Envelope]) -> Request {
        Request::DkgDeal(v1::DkgDealRequest {
            node: self.id().as_bytes().to_vec(),
            session: session.as_bytes().to_vec(),
            round0: round0.to_vec(),
        })
    }
}
