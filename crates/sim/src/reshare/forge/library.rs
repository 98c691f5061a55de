//! What no message gets as far as, asked of the libraries themselves: nodes and coordinators build what they are given from
//! orders and parents, so that it is whole and in place, but who calls them otherwise must be refused too.

use quorate_documents::Statement;
use quorate_schemes::dkg::{ReceiveKey, Ristretto255};
use quorate_schemes::reshare::{self, Parent, Participant, ReshareError};
use quorate_secret::Secret;

use super::{Run, Side};
use crate::reshare::check::{self, Invariant};

impl Side<'_> {
    /// Participants out of order, one of them twice, and fewer dealers than T; and a statement of another key.
    pub(super) fn library(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let good = run.said(|place| place.deals)?;
        let parent = run.terms.parent.clone();
        let members = usize::from(run.terms.order.threshold().n());

        let mut turned = good.clone();
        turned.get_mut(..members)?.reverse();
        if turned != good {
            self.refused(&run, &turned, "out of order", |error| error == ReshareError::Places);
        }
        if let Some(doubled) = self.doubled(&run, &good) {
            self.refused(&run, &doubled, "of one node", |error| error == ReshareError::Places);
        }
        let inside = run.terms.places.iter().find(|place| place.deals && place.index > 0);
        if let Some(node) = inside.map(|place| place.node) {
            let fewer = run.said(|place| place.deals && place.node != node)?;
            let wrong = "of whom fewer than T deal";
            self.refused(&run, &fewer, wrong, |error| error == ReshareError::Dealers);
        }
        let mut commitments = parent.commitments().to_vec();
        commitments.resize(usize::from(run.terms.order.threshold().t()), *commitments.first()?);
        let key = ReceiveKey::<Ristretto255>::from_seed(&Secret::random(&mut self.rng));
        *commitments.first_mut()? = *key.public();
        self.fired += 1;
        let generation = parent.generation();
        if Statement::of_reshare(&parent, &run.terms.order, commitments, generation).is_ok() {
            self.report(Invariant::OneKey, "a statement of another key");
        }
        Some(())
    }

    fn refused(
        &mut self,
        run: &Run,
        said: &[Participant<Ristretto255>],
        wrong: &str,
        right: impl Fn(ReshareError) -> bool,
    ) {
        let parent = &run.terms.parent;
        let public = Parent::new(parent.generation(), parent.threshold(), parent.commitments());
        let (Some(public), Some(binding)) = (public, run.binding()) else { return };
        self.fired += 1;
        let found = reshare::session(binding, run.terms.order.threshold(), &public, said);
        let what = match found {
            Err(error) if right(error) => return,
            Err(error) => format!("says {error} of participants {wrong}"),
            Ok(_) => format!("takes participants {wrong}"),
        };
        self.report(Invariant::AcceptsWhatFits, format!("reshare::session {what}"));
    }

    /// The last member under the name of the one before, with good proofs of everything.
    fn doubled(
        &mut self,
        run: &Run,
        good: &[Participant<Ristretto255>],
    ) -> Option<Vec<Participant<Ristretto255>>> {
        let members = usize::from(run.terms.order.threshold().n());
        let (last, before) = (members.checked_sub(1)?, members.checked_sub(2)?);
        let mut said = good.to_vec();
        let (name, own) = (good.get(before)?.node, good.get(last)?.node);
        let one = said.get_mut(last)?;
        one.node = name;
        let key = ReceiveKey::<Ristretto255>::from_seed(&Secret::random(&mut self.rng));
        one.receive_key = *key.public();
        let binding = run.binding()?;
        one.proof = key.prove_possession(&one.key_statement(&binding)?, &mut self.rng);
        let parent = &run.terms.parent;
        let public = Parent::new(parent.generation(), parent.threshold(), parent.commitments())?;
        if let Some(statement) =
            one.share_statement(&binding, &public).filter(|_| one.share_proof.is_some())
        {
            let core =
                self.nodes.get(self.cluster.nodes.iter().position(|it| it.entry.id == own)?)?;
            let (_, share) = check::share(core, self.key, parent.generation())?;
            one.share_proof = reshare::prove_share(&share.to_bytes(), &statement, &mut self.rng);
        }
        Some(said)
    }
}
