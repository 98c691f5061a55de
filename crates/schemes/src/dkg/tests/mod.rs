//! The generic suite: every test here runs for every ciphersuite.
//!
//! 60 defences (checks, and fields of what is hashed) were taken out one by one, and a test here
//! failed each time. The one exception is the canonical check of Ed25519 points, which says why
//! itself.

mod attacks;
mod evidence;
mod mutations;
mod protocol;
mod recovery;
mod vectors;

use quorate_secret::Secret;
use quorate_types::{Digest, NodeId, ParticipantIndex, SessionId, Threshold};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::cocktail::certify;
use super::possession::{PossessionKind, PossessionStatement};
use super::suite::Suite;
use super::*;

/// Runs one generic test for each suite.
macro_rules! for_each_suite {
    ($($(#[$doc:meta])* $name:ident)*) => {
        mod ristretto255 {
            $($(#[$doc])* #[test] fn $name() { super::$name::<crate::dkg::Ristretto255>(); })*
        }
        mod ed25519 {
            $($(#[$doc])* #[test] fn $name() { super::$name::<crate::dkg::Ed25519>(); })*
        }
    };
}
use for_each_suite;

/// A suite, and what is wrong input to it.
trait TestSuite: Suite {
    /// Encodings that no protocol message may contain, each with what is wrong with it.
    fn bad_points() -> Vec<(&'static str, Self::PointBytes)>;
}

/// 2^255 - 19, little-endian, plus a small number: a field element's second encoding.
fn beyond_p(plus: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + plus;
    bytes[31] = 0x7f;
    bytes
}

impl TestSuite for Ristretto255 {
    fn bad_points() -> Vec<(&'static str, [u8; 32])> {
        let mut negative = [0; 32];
        negative[0] = 1;
        let mut top_bit = Self::encode_point(&Self::generator());
        top_bit[31] |= 0x80;
        vec![
            ("identity", [0; 32]),
            ("p", beyond_p(0)),
            ("p + 1", beyond_p(1)),
            ("all ones", [0xff; 32]),
            ("negative", negative),
            ("top bit", top_bit),
            // RFC 9496 appendix A.2: a non-square x^2, and a negative x y.
            ("not square", hex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371")),
            (
                "negative xy",
                hex("3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e"),
            ),
        ]
    }
}

impl TestSuite for Ed25519 {
    fn bad_points() -> Vec<(&'static str, [u8; 32])> {
        use curve25519_dalek::constants::EIGHT_TORSION;
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signed_identity = identity;
        signed_identity[31] = 0x80;
        let mut bad = vec![
            ("identity", identity),
            ("identity with a sign", signed_identity),
            ("y = p", beyond_p(0)),
            ("y = p + 1: identity again", beyond_p(1)),
            ("not on the curve", {
                let mut two = [0; 32];
                two[0] = 2;
                two
            }),
        ];
        for torsion in &EIGHT_TORSION[1..] {
            bad.push(("low order", torsion.compress().to_bytes()));
            bad.push(("mixed order", (Self::generator() + torsion).compress().to_bytes()));
        }
        bad
    }
}

fn hex(text: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// A canonical scalar's second encoding: the group order added. Little-endian suites only.
fn plus_order<S: Suite>(scalar: &[u8]) -> [u8; 32] {
    let mut carry = 1; // the order is -1's encoding, plus one
    let minus_one = S::encode_scalar(&-S::Scalar::from(1));
    let mut sum = [0; 32];
    for ((to, a), b) in sum.iter_mut().zip(scalar).zip(minus_one) {
        let wide = u16::from(*a) + u16::from(b) + carry;
        *to = wide.to_le_bytes()[0];
        carry = wide >> 8;
    }
    assert!(S::decode_scalar(&sum).is_none());
    sum
}

/// A signature with the group order added to z.
fn plus_order_in_z<S: Suite>(signature: &S::SignatureBytes) -> S::SignatureBytes {
    let (r, z) = S::split_signature(signature);
    S::join_signature(&r, &plus_order::<S>(&z))
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([42; 32])
}

fn of(t: u16, n: u16) -> Threshold {
    Threshold::new(t, n).unwrap()
}

/// All participants of one session, honest, in one place.
struct World<S: Suite> {
    session: Session<S>,
    keys: Vec<ReceiveKey<S>>,
    seeds: Vec<Secret<32>>,
}

fn binding(session: u8) -> SessionBinding {
    SessionBinding {
        session: SessionId::from_bytes([session; 32]),
        order: Digest::from_bytes([0xa1; 32]),
        roster: Digest::from_bytes([0xa2; 32]),
    }
}

fn node(index: u16) -> NodeId {
    let mut bytes = [0x11; 16];
    bytes[..2].copy_from_slice(&index.to_be_bytes());
    NodeId::from_bytes(bytes)
}

/// Round 0 of an honest node.
fn member<S: Suite>(
    binding: &SessionBinding,
    index: ParticipantIndex,
    key: &ReceiveKey<S>,
) -> Member<S> {
    let statement = PossessionStatement {
        kind: PossessionKind::ReceiveKey,
        session: binding.session,
        order: binding.order,
        node: node(index.get()),
        index,
        point: *key.public(),
    };
    let proof = key.prove_possession(&statement, &mut rng());
    Member {
        index: u32::from(index.get()),
        node: statement.node,
        receive_key: *key.public(),
        proof,
    }
}

impl<S: Suite> World<S> {
    fn new(t: u16, n: u16) -> Self {
        Self::with(binding(1), t, n)
    }

    fn with(binding: SessionBinding, t: u16, n: u16) -> Self {
        let threshold = of(t, n);
        let seed = |kind: u8, index: u16| {
            Secret::from_fn(|b| {
                b[0] = kind;
                b[1..3].copy_from_slice(&index.to_be_bytes());
            })
        };
        let keys: Vec<_> = (1..=n).map(|i| ReceiveKey::<S>::from_seed(&seed(1, i))).collect();
        let seeds = (1..=n).map(|i| seed(2, i)).collect();
        let members = threshold.indices().zip(&keys).map(|(i, k)| member(&binding, i, k)).collect();
        let session = Session::new(binding, threshold, members).unwrap();
        Self { session, keys, seeds }
    }

    fn threshold(&self) -> Threshold {
        self.session.setup().threshold()
    }

    fn index(&self, index: u32) -> ParticipantIndex {
        ParticipantIndex::new(index, self.threshold()).unwrap()
    }

    fn indices(&self) -> Vec<ParticipantIndex> {
        self.threshold().indices().collect()
    }

    fn key(&self, index: ParticipantIndex) -> &ReceiveKey<S> {
        &self.keys[index.position()]
    }

    fn deal(&self, index: ParticipantIndex) -> Round1<S> {
        self.session.round1(index, self.key(index), &self.seeds[index.position()]).unwrap()
    }

    fn deal_all(&self) -> Vec<Round1<S>> {
        self.indices().into_iter().map(|index| self.deal(index)).collect()
    }

    /// What an honest coordinator relays to one recipient.
    fn relay(
        &self,
        dealt: &[Round1<S>],
        to: ParticipantIndex,
    ) -> (Vec<Round1Message<S>>, Vec<Delivery>) {
        let messages = dealt.iter().map(|round1| round1.message.clone()).collect();
        let deliveries = dealt.iter().map(|round1| self.delivery(round1, to)).collect();
        (messages, deliveries)
    }

    fn delivery(&self, round1: &Round1<S>, to: ParticipantIndex) -> Delivery {
        let ciphertext = round1.ciphertexts[to.position()].clone();
        let path = merkle::paths(self.threshold().indices(), &round1.ciphertexts)
            .swap_remove(to.position());
        Delivery { ciphertext, path }
    }

    fn receive(
        &self,
        dealt: &[Round1<S>],
        to: ParticipantIndex,
    ) -> Result<Round2Output<S>, Round2Error> {
        let (messages, deliveries) = self.relay(dealt, to);
        self.session.round2(to, self.key(to), &messages, &deliveries)
    }

    /// Lets a dealer encrypt another plaintext than its share to one recipient, and commit to it as
    /// if nothing were wrong.
    fn cheat(
        &self,
        round1: &mut Round1<S>,
        to: ParticipantIndex,
        change: impl FnOnce(&mut Vec<u8>),
    ) {
        let from = self.index(round1.message.dealer);
        let secrets = self.session.secrets(from, &self.seeds[from.position()]);
        let (recipient, point) = self.session.setup().receive_key(to).unwrap();
        let one = S::ecdh_encode(&(*point * *secrets.ephemeral()));
        let two = S::ecdh_encode(&(*point * *self.key(from).secret()));
        let shared = [one.as_slice(), two.as_slice()].concat();
        let key_and_nonce = S::key_and_nonce(
            &shared,
            &round1.message.broadcast.ephemeral,
            self.key(from).public(),
            recipient,
            self.session.setup().context(),
        );
        let at = &mut round1.ciphertexts[to.position()];
        let mut plaintext: Zeroizing<Vec<u8>> = S::open(&key_and_nonce, at).unwrap();
        change(&mut plaintext);
        *at = S::seal(&key_and_nonce, &plaintext).unwrap();
        self.commit(round1);
    }

    /// Signs a proof of possession over whatever the message now says, with the dealer's own secret.
    fn sign_pop(&self, message: &mut Round1Message<S>) {
        let from = self.index(message.dealer);
        let secrets = self.session.secrets(from, &self.seeds[from.position()]);
        let broadcast = &mut message.broadcast;
        let mut parts = vec![self.session.setup().context()];
        parts.extend(broadcast.commitments.iter().map(AsRef::as_ref));
        parts.push(broadcast.ephemeral.as_ref());
        broadcast.pop = schnorr::sign::<S>(&secrets.coefficients[0], &parts).unwrap();
    }

    /// Proves knowledge of the ephemeral key that the dealer's seed gives, over whatever the
    /// message now says.
    fn prove_ephemeral(&self, message: &mut Round1Message<S>) {
        let index = self.index(message.dealer);
        let secrets = self.session.secrets(index, &self.seeds[index.position()]);
        let SessionBinding { session, order, .. } = *self.session.binding();
        let statement = PossessionStatement::<S> {
            kind: PossessionKind::Ephemeral,
            session,
            order,
            node: node(index.get()),
            index,
            point: message.broadcast.ephemeral,
        };
        message.ephemeral_proof = possession::prove(secrets.ephemeral(), &statement, &[5; 32]);
    }

    /// Recomputes a dealer's root.
    fn commit(&self, round1: &mut Round1<S>) {
        round1.message.root =
            merkle::root(self.threshold().indices(), &round1.ciphertexts).unwrap();
    }

    fn sign_all(&self, outputs: &[Round2Output<S>]) -> Vec<S::SignatureBytes> {
        self.keys
            .iter()
            .zip(outputs)
            .map(|(key, output)| certify::sign(key, &output.transcript).unwrap())
            .collect()
    }
}

/// `sum(lambda_i * x_i) * B` over a set of shares.
fn interpolate<S: Suite>(shares: &[(u16, [u8; 32])]) -> S::PointBytes {
    let scalar = |i: u16| S::Scalar::from(u64::from(i));
    let mut sum = S::identity();
    for (i, share) in shares {
        let mut numerator = S::decode_scalar(share).unwrap();
        for (j, _) in shares {
            if i != j {
                numerator = numerator * scalar(*j) * inverse_small::<S>(*j, *i);
            }
        }
        sum = sum + S::mul_base(&numerator);
    }
    S::encode_point(&sum)
}

/// `1 / (j - i)`, by Fermat: the order minus two is read off from `-1`.
fn inverse_small<S: Suite>(j: u16, i: u16) -> S::Scalar {
    let base = S::Scalar::from(u64::from(j)) - S::Scalar::from(u64::from(i));
    let exponent = S::encode_scalar(&(-S::Scalar::from(2)));
    // -2 mod q is q - 2, little-endian in both suites.
    let mut power = S::Scalar::from(1);
    for byte in exponent.iter().rev() {
        for bit in (0..8).rev() {
            power = power * power;
            if byte >> bit & 1 == 1 {
                power = power * base;
            }
        }
    }
    power
}
