//! The client's side: collecting answers of one generation and combining them.

use core::fmt;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use quorate_secret::PrfOutput;
use quorate_types::{Digest, Generation, ParticipantIndex};
use zeroize::{Zeroize, Zeroizing};

use super::{Labels, Proof, ProofError, Statement};
use crate::dleq::{self, Encoded};
use crate::group::{PointError, Ristretto};
use crate::sharing::{LagrangeError, PublicShares, VerifyingShare, lagrange_at_zero};

/// Why one participant's answer is not combined. Every variant names the participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// The certificate has no such participant.
    #[error("the certificate names no participant {participant}")]
    UnknownParticipant {
        /// Who is said to have answered.
        participant: ParticipantIndex,
    },
    /// An answer of another generation: of an older or newer sharing, or of another key.
    #[error("participant {participant} answered for generation {found}, not {expected}")]
    Generation {
        /// Who answered.
        participant: ParticipantIndex,
        /// The generation of the certificate.
        expected: Generation,
        /// The generation of the answer.
        found: Generation,
    },
    /// A second answer of one participant: two are no more than one.
    #[error("participant {participant} has answered already")]
    Duplicate {
        /// Who answered twice.
        participant: ParticipantIndex,
    },
    /// Not one partial evaluation for each label.
    #[error("participant {participant} answered {found} labels where {expected} were asked")]
    Count {
        /// Who answered.
        participant: ParticipantIndex,
        /// How many labels there are.
        expected: usize,
        /// How many partial evaluations came.
        found: usize,
    },
    /// A partial evaluation that is no element, or the identity.
    #[error("participant {participant} answered label {position} with garbage")]
    Point {
        /// Who answered.
        participant: ParticipantIndex,
        /// The label's position, from 0.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: PointError,
    },
    /// The proof does not hold: the participant did not use the share that the certificate names.
    #[error("participant {participant} did not prove its answer")]
    Proof {
        /// Who answered.
        participant: ParticipantIndex,
        /// What is wrong with it.
        #[source]
        source: ProofError,
    },
}

/// Why answers give no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// Too few participants have answered.
    #[error("{have} participants have answered where {need} are needed")]
    NotQuorate {
        /// How many distinct participants' answers there are.
        have: u16,
        /// The threshold.
        need: u16,
    },
    /// The answers cancel to the identity, whose output anybody could compute. Proved answers never do:
    /// ask again with proofs to learn who lied.
    #[error("the answers for label {position} cancel; at least one of them is wrong")]
    Identity {
        /// The label's position, from 0.
        position: usize,
    },
}

/// Collects the answers of distinct participants of one generation, and combines `T` of them.
///
/// Make one for each request with [`Combiner::new`]; [`add_proved`](Self::add_proved) answers that
/// must be right (encrypting), [`add_unproved`](Self::add_unproved) where a wrong output is noticed later
/// (decrypting, by the object's commitment); then [`finish`](Self::finish). A refused answer leaves the
/// combiner as it was.
pub struct Combiner<'a> {
    generation: Generation,
    public: &'a PublicShares,
    labels: &'a Labels<'a>,
    answers: Vec<Answer>,
}

impl fmt::Debug for Combiner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combiner")
            .field("generation", &self.generation)
            .field("threshold", &self.public.threshold())
            .field("have", &self.have())
            .finish_non_exhaustive()
    }
}

struct Answer {
    participant: ParticipantIndex,
    /// One point for each label: parts of secrets, though none is one.
    points: Zeroizing<Vec<RistrettoPoint>>,
}

impl<'a> Combiner<'a> {
    /// A combiner for one generation's certificate: its name and its verifying shares.
    #[must_use]
    pub fn new(generation: Generation, public: &'a PublicShares, labels: &'a Labels<'a>) -> Self {
        Self { generation, public, labels, answers: Vec::new() }
    }

    /// Adds one participant's answer without a proof.
    ///
    /// # Security
    /// A participant that lies is not found out here: the output is then wrong, and whoever uses it must
    /// be able to tell.
    ///
    /// # Errors
    /// [`CombineError`], naming the participant.
    pub fn add_unproved(
        &mut self,
        participant: ParticipantIndex,
        generation: Generation,
        partials: &[[u8; 32]],
    ) -> Result<(), CombineError> {
        let (answer, _) = self.admit(participant, generation, partials)?;
        self.answers.push(answer);
        Ok(())
    }

    /// Adds one participant's answer if its proof holds. `request` is the digest of the request that
    /// this participant was sent.
    ///
    /// # Errors
    /// [`CombineError`], naming the participant.
    pub fn add_proved(
        &mut self,
        participant: ParticipantIndex,
        generation: Generation,
        request: Digest,
        partials: &[[u8; 32]],
        proof: &Proof,
    ) -> Result<(), CombineError> {
        let (answer, share) = self.admit(participant, generation, partials)?;
        let statement = Statement { request, generation };
        let answers = Encoded { points: &answer.points, bytes: partials };
        dleq::verify(share, &statement, self.labels.encoded(), answers, proof)
            .map_err(|source| CombineError::Proof { participant, source })?;
        self.answers.push(answer);
        Ok(())
    }

    /// How many distinct participants' answers there are.
    #[must_use]
    pub fn have(&self) -> u16 {
        // Distinct participants of one committee: at most `n`, which fits.
        self.answers.len() as u16
    }

    /// Whether [`finish`](Self::finish) will succeed.
    #[must_use]
    pub fn is_quorate(&self) -> bool {
        self.have() >= self.public.threshold().t()
    }

    /// Combines the first `T` answers into the PRF's output for each label, in order: byte for byte
    /// what RFC 9497 `Evaluate` gives for the whole key.
    ///
    /// # Errors
    /// [`FinishError::NotQuorate`] with fewer than `T` distinct participants, and
    /// [`FinishError::Identity`] for answers that cancel.
    pub fn finish(self) -> Result<Vec<PrfOutput>, FinishError> {
        let need = self.public.threshold().t();
        let not_quorate = FinishError::NotQuorate { have: self.have(), need };
        let answers = self.answers.get(..usize::from(need)).ok_or(not_quorate)?;
        let participants: Vec<ParticipantIndex> = answers.iter().map(|a| a.participant).collect();
        let lambdas = match lagrange_at_zero(&participants) {
            Ok(lambdas) => lambdas,
            // `admit` lets no participant in twice, and a threshold is at least 1.
            Err(LagrangeError::Empty | LagrangeError::Duplicate(_)) => return Err(not_quorate),
        };
        // Half of each coefficient, since the encoder doubles: one inversion for all labels.
        let halves: Vec<Scalar> = lambdas.iter().map(Scalar::div_by_2).collect();
        // In variable time: only the coefficients steer it, and they follow from who answered. The
        // points pass through the same field operations whatever they are.
        let sums: Zeroizing<Vec<RistrettoPoint>> = Zeroizing::new(
            (0..self.labels.len())
                .map(|position| {
                    RistrettoPoint::optional_multiscalar_mul(
                        &halves,
                        answers.iter().map(|answer| answer.points.get(position).copied()),
                    )
                })
                .collect::<Option<_>>()
                // `admit` checked that every answer has one point for each label.
                .ok_or(not_quorate)?,
        );
        // `double_and_compress_batch` takes the identity too, and encodes it as zeros.
        let mut encoded = RistrettoPoint::double_and_compress_batch(&*sums);
        if let Some(position) = encoded.iter().position(|z| z.as_bytes() == &[0; 32]) {
            encoded.zeroize();
            return Err(FinishError::Identity { position });
        }
        let outputs = self.labels.finalize(encoded.iter().map(CompressedRistretto::as_bytes));
        encoded.zeroize();
        Ok(outputs)
    }

    /// Everything that can be checked without a proof.
    fn admit(
        &self,
        participant: ParticipantIndex,
        generation: Generation,
        partials: &[[u8; 32]],
    ) -> Result<(Answer, &'a VerifyingShare), CombineError> {
        let share = self
            .public
            .share(participant)
            .ok_or(CombineError::UnknownParticipant { participant })?;
        if generation != self.generation {
            return Err(CombineError::Generation {
                participant,
                expected: self.generation,
                found: generation,
            });
        }
        if self.answers.iter().any(|answer| answer.participant == participant) {
            return Err(CombineError::Duplicate { participant });
        }
        if partials.len() != self.labels.len() {
            return Err(CombineError::Count {
                participant,
                expected: self.labels.len(),
                found: partials.len(),
            });
        }
        let mut points = Zeroizing::new(Vec::with_capacity(partials.len()));
        for (position, partial) in partials.iter().enumerate() {
            points.push(
                Ristretto::decode_point(partial).map_err(|source| CombineError::Point {
                    participant,
                    position,
                    source,
                })?,
            );
        }
        Ok((Answer { participant, points }, share))
    }
}
