//! Lying coordinators of reshares: an honest one of which some requests are changed on the way out.

use quorate_coordinator::ceremony::reshare::{Request, Reshare, Send};
use quorate_types::limits::SESSION_SECONDS;
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::network::Guise;

macro_rules! strategies {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// One way for a coordinator of a reshare to lie.
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
        }
    };
}

strategies! {
    /// A flipped byte in a round-0 payload.
    TamperedRound0, "tampered round 0";
    /// One message less in round 0.
    TruncatedRound0, "truncated round 0";
    /// One message more in round 0.
    PaddedRound0, "padded round 0";
    /// Two participants at each other's places in round 0.
    SwappedRound0, "swapped round 0";
    /// Half of the nodes are shown one message of round 0 twice.
    SplitRound0, "split view of round 0";
    /// A flipped byte in a round-1 payload.
    TamperedRound1, "tampered round 1";
    /// A participant's round 1 with its proof replaced, signed by the coordinator itself.
    ResignedRound1, "re-signed round 1";
    /// One dealer less.
    TruncatedRound1, "truncated round 1";
    /// Two dealers at each other's places.
    SwappedRound1, "swapped round 1";
    /// A flipped byte in a ciphertext.
    TamperedCiphertext, "tampered ciphertext";
    /// A flipped byte in a path, or a path where there is none.
    TamperedPath, "tampered path";
    /// Deliveries of two dealers at each other's places.
    SwappedDeliveries, "swapped deliveries";
    /// One delivery less.
    TruncatedDeliveries, "truncated deliveries";
    /// Nothing where everything should be.
    EmptyVectors, "empty vectors";
    /// Another parent than the highest generation.
    WrongParent, "wrong parent";
    /// A dealer less, twice, out of order, or one that is none.
    WrongDealers, "wrong dealers";
    /// Another order, another roster, an attempt out of range, or a short nonce.
    WrongTerms, "wrong terms of session";
    /// A certificate with a commitment changed.
    ForgedStatement, "forged statement";
    /// A certificate signed by keys of its own.
    ForgedSignatures, "forged signatures";
    /// A certificate that one participant has not signed.
    MissingSignature, "missing signature";
    /// A certificate that somebody else has signed besides.
    StrangersSignature, "a stranger's signature";
    /// A certificate of a greater height.
    GreaterHeight, "greater height";
    /// Everything twice.
    Duplicates, "duplicate delivery";
    /// Every node asked to deal and sign before its time too.
    SkipsAhead, "skips ahead";
    /// Dies when all have opened.
    DiesAfterOpen, "dies after round 0";
    /// Dies when all have dealt.
    DiesAfterDeal, "dies after round 1";
    /// Dies when some were asked to sign.
    DiesAmidSign, "dies amid round 2";
    /// Dies when all have signed.
    DiesAfterSign, "dies after round 2";
    /// Dies when some have the certificate.
    DiesAmidDelivery, "dies amid delivery";
    /// Lets the time of its session pass before it goes on.
    Late, "late";
    /// Sends each request in the name of somebody who may not coordinate as well.
    WithoutPermission, "without permission";
    /// Sends each request in the name of another tenant's principal as well.
    ForeignTenant, "foreign tenant";
    /// Sends each request to another node as well, as it is.
    WrongNode, "wrong node";
}

impl Strategy {
    /// Whether it lies about a certificate, or about having one: it comes about only where one is made.
    #[must_use]
    pub const fn needs_certificate(self) -> bool {
        matches!(
            self,
            Self::ForgedStatement
                | Self::ForgedSignatures
                | Self::MissingSignature
                | Self::StrangersSignature
                | Self::GreaterHeight
                | Self::DiesAfterSign
                | Self::DiesAmidDelivery
        )
    }
}

/// What a lying coordinator sends.
pub struct Ask {
    /// To whom and what.
    pub send: Send,
    /// In whose name.
    pub guise: Guise,
}

/// A lying coordinator.
pub struct Hostile {
    /// The honest one inside, which sees every answer.
    pub inner: Reshare,
    /// How it lies.
    pub strategy: Strategy,
    /// How often it has lied.
    pub fired: u64,
    /// Whether it will do nothing more.
    pub dead: bool,
}

fn flip(bytes: &mut [u8], rng: &mut ChaCha20Rng) {
    let at = rng.next_u32() as usize % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (rng.next_u32() % 8);
    }
}

fn pick<'a, T>(items: &'a mut [T], rng: &mut ChaCha20Rng) -> Option<&'a mut T> {
    let at = rng.next_u32() as usize % items.len().max(1);
    items.get_mut(at)
}

impl Hostile {
    /// One that lies so, around an honest one.
    #[must_use]
    pub const fn new(strategy: Strategy, inner: Reshare) -> Self {
        Self { inner, strategy, fired: 0, dead: false }
    }

    /// Milliseconds to wait before what was just polled is sent.
    #[must_use]
    pub fn wait(&self, asks: &[Ask]) -> u64 {
        let rests = self.strategy == Strategy::Late
            && asks
                .iter()
                .any(|ask| matches!(ask.send.request, Request::Deal(_) | Request::Sign(_)));
        if rests { (SESSION_SECONDS + 60) * 1000 } else { 0 }
    }

    /// What to send now.
    pub fn poll(&mut self, rng: &mut ChaCha20Rng) -> Vec<Ask> {
        if self.dead {
            return Vec::new();
        }
        let mut sends = self.inner.poll();
        let dies = |this: &mut Self| {
            this.fired += 1;
            this.dead = true;
        };
        let first = sends.first().map(|send| send.request.clone());
        match (self.strategy, first) {
            (Strategy::DiesAfterOpen, Some(Request::Deal(_)))
            | (Strategy::DiesAfterDeal, Some(Request::Sign(_)))
            | (Strategy::DiesAfterSign, Some(Request::PutCertificate(_)))
                if self.strategy != Strategy::DiesAfterSign
                    || self.inner.certificate().is_some() =>
            {
                dies(self);
                return Vec::new();
            }
            (Strategy::DiesAmidSign, Some(Request::Sign(_))) => {
                dies(self);
                let some = 1 + rng.next_u32() as usize % sends.len().max(1);
                sends.truncate(some.min(sends.len().saturating_sub(1)).max(1));
            }
            (Strategy::DiesAmidDelivery, Some(Request::PutCertificate(_)))
                if self.inner.certificate().is_some() =>
            {
                dies(self);
                sends.truncate(1);
            }
            _ => {}
        }
        if self.strategy == Strategy::Late
            && sends.iter().any(|s| matches!(s.request, Request::Deal(_) | Request::Sign(_)))
        {
            self.fired += 1;
        }
        let mut asks = Vec::new();
        for (at, send) in sends.into_iter().enumerate() {
            self.disguised(at, send, rng, &mut asks);
        }
        asks
    }

    fn disguised(&mut self, at: usize, send: Send, rng: &mut ChaCha20Rng, asks: &mut Vec<Ask>) {
        let own = |send: Send| Ask { send, guise: Guise::Own };
        let guise = match self.strategy {
            Strategy::WithoutPermission => Some(Guise::Bystander),
            Strategy::ForeignTenant => Some(Guise::Foreigner),
            Strategy::Duplicates => Some(Guise::Own),
            _ => None,
        };
        if let Some(guise) = guise {
            self.fired += 1;
            asks.push(Ask { send: send.clone(), guise });
            asks.push(own(send.clone()));
            asks.push(Ask { send, guise });
            return;
        }
        match self.strategy {
            Strategy::WrongNode => {
                self.fired += 1;
                let mut other = send.clone();
                let node = match &mut other.request {
                    Request::State(request) => &mut request.node,
                    Request::Open(request) => &mut request.node,
                    Request::Deal(request) => &mut request.node,
                    Request::Sign(request) => &mut request.node,
                    Request::PutCertificate(request) => &mut request.node,
                };
                flip(node, rng);
                asks.push(own(other));
            }
            Strategy::SkipsAhead => {
                if let Request::Open(request) = &send.request {
                    self.fired += 1;
                    let (node, session) = (request.node.clone(), request.session.clone());
                    let deal =
                        v1::ReshareDealRequest { node, session: session.clone(), round0: vec![] };
                    let node = request.node.clone();
                    let sign = v1::ReshareSignRequest { node, session, ..Default::default() };
                    for request in [Request::Deal(deal), Request::Sign(sign)] {
                        asks.push(own(Send { node: send.node, request }));
                    }
                }
            }
            _ => {}
        }
        let before = send.clone();
        let changed = self.changed(at, send, rng);
        self.fired += u64::from(changed != before);
        asks.push(own(changed));
    }

    fn changed(&self, at: usize, mut send: Send, rng: &mut ChaCha20Rng) -> Send {
        match &mut send.request {
            Request::State(_) => {}
            Request::Open(request) => {
                if let Some(session) = &mut request.session {
                    self.terms(session, rng);
                }
            }
            Request::Deal(request) => self.round0(at, &mut request.round0, rng),
            Request::Sign(request) => {
                self.round0(at, &mut request.round0, rng);
                self.round1(request, rng);
            }
            Request::PutCertificate(request) => {
                if let Some(certificate) = &mut request.certificate {
                    forge(self.strategy, certificate, rng);
                }
            }
        }
        send
    }

    fn terms(&self, session: &mut v1::Session, rng: &mut ChaCha20Rng) {
        match self.strategy {
            Strategy::WrongParent => flip(&mut session.parent, rng),
            Strategy::WrongDealers => match rng.next_u32() % 4 {
                0 => drop(session.dealers.pop()),
                1 => session.dealers.extend(session.dealers.last().copied()),
                2 => session.dealers.insert(0, 99),
                _ => session.dealers.push(99),
            },
            Strategy::WrongTerms => match rng.next_u32() % 5 {
                0 => flip(&mut session.order, rng),
                1 => flip(&mut session.roster, rng),
                2 => session.attempt = 0,
                3 => session.attempt = 17,
                _ => session.nonce.truncate(31),
            },
            _ => {}
        }
    }

    fn round0(&self, at: usize, round0: &mut Vec<v1::Envelope>, rng: &mut ChaCha20Rng) {
        match self.strategy {
            Strategy::TamperedRound0 => {
                if let Some(envelope) = pick(round0, rng) {
                    flip(&mut envelope.payload, rng);
                }
            }
            Strategy::TruncatedRound0 => drop(round0.pop()),
            Strategy::PaddedRound0 => round0.extend(round0.first().cloned()),
            Strategy::SwappedRound0 => round0.reverse(),
            Strategy::SplitRound0 if at % 2 == 1 => {
                if let (Some(first), Some(last)) = (round0.first().cloned(), round0.last_mut()) {
                    *last = first;
                }
            }
            Strategy::EmptyVectors => round0.clear(),
            _ => {}
        }
    }

    fn round1(&self, request: &mut v1::ReshareSignRequest, rng: &mut ChaCha20Rng) {
        match self.strategy {
            Strategy::TamperedRound1 => {
                if let Some(envelope) = pick(&mut request.round1, rng) {
                    flip(&mut envelope.payload, rng);
                }
            }
            Strategy::ResignedRound1 => {
                if let Some(envelope) = pick(&mut request.round1, rng)
                    && let Ok(mut message) =
                        strict::decode::<v1::Round1>("Round1", &envelope.payload)
                {
                    flip(&mut message.proof_of_possession, rng);
                    *envelope = SigningKey::generate(rng)
                        .envelop(PayloadType::ReshareRound1, strict::encode(&message));
                }
            }
            Strategy::TruncatedRound1 => drop(request.round1.pop()),
            Strategy::SwappedRound1 => request.round1.reverse(),
            Strategy::TamperedCiphertext => {
                if let Some(delivery) = pick(&mut request.deliveries, rng) {
                    flip(&mut delivery.ciphertext, rng);
                }
            }
            Strategy::TamperedPath => {
                if let Some(delivery) = pick(&mut request.deliveries, rng) {
                    match delivery.path.first_mut() {
                        Some(digest) => flip(digest, rng),
                        None => delivery.path.push(vec![0; 32]),
                    }
                }
            }
            Strategy::SwappedDeliveries => request.deliveries.reverse(),
            Strategy::TruncatedDeliveries => drop(request.deliveries.pop()),
            Strategy::EmptyVectors => request.deliveries.clear(),
            _ => {}
        }
    }
}

fn forge(strategy: Strategy, certificate: &mut v1::Envelope, rng: &mut ChaCha20Rng) {
    let statement = |certificate: &v1::Envelope| {
        strict::decode::<v1::CertificateStatement>("CertificateStatement", &certificate.payload)
    };
    match strategy {
        Strategy::ForgedStatement | Strategy::GreaterHeight => {
            let Ok(mut message) = statement(certificate) else { return };
            if strategy == Strategy::GreaterHeight {
                message.height += 1000;
                message.parent = vec![7; 32];
            } else {
                message.commitments.reverse();
                flip(&mut message.generation, rng);
            }
            certificate.payload = strict::encode(&message);
        }
        Strategy::ForgedSignatures => {
            for signature in &mut certificate.signatures {
                let key = SigningKey::generate(rng);
                *signature = key.sign(PayloadType::Certificate, &certificate.payload);
            }
        }
        Strategy::MissingSignature => drop(certificate.signatures.pop()),
        Strategy::StrangersSignature => {
            let key = SigningKey::generate(rng);
            let signature = key.sign(PayloadType::Certificate, &certificate.payload);
            certificate.signatures.push(signature);
        }
        _ => {}
    }
}
