//! Coordinators that are not built upon an honest one: they drive sessions by themselves, verify nothing, and know the identity
//! keys of some participants, with which they sign whatever they like.
//!
//! They play on copies of all nodes, with every request answered at once, so that each may ask for what would spoil the run for
//! whoever comes after it: nothing of it is left. What nodes answer is compared with [`super::reference`].

mod certificates;
mod documents;
mod floods;
mod library;
mod relays;
mod side;
mod terms;
mod trial;

pub(super) use side::{Run, Side};

macro_rules! forgeries {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// One way to forge.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Forgery { $($(#[$doc])* $name,)* }

        impl Forgery {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

forgeries! {
    /// Sessions with every field of their statement changed once.
    ChangedTerms, "every field of a session changed";
    /// Each step in other names, and to other nodes.
    OtherNames, "each step in other names";
    /// A colluding participant's round 0, wrong in each way, relayed.
    Round0, "a liar's round 0 relayed";
    /// Round 0 with a message more, less, at another place or of another session.
    Mixed0, "round 0 of sessions mixed";
    /// Whatever nodes ever said in sessions of the run, in another session; and every certificate that there was.
    Replays, "what was ever recorded replayed";
    /// A colluding dealer's round 1, wrong in each way, relayed.
    Round1, "a liar's round 1 relayed";
    /// Round 1 with a message more, less, at another place or of another session.
    Mixed1, "round 1 of sessions mixed";
    /// Two sets of round 0 in one session: a node was put back meanwhile.
    TwoSets, "two sets of round 0 in a session";
    /// Two colluding participants with one key.
    OneKey, "one key for two participants";
    /// A colluding dealer that deals another secret than its part, with good proofs.
    OtherSecret, "another secret dealt";
    /// A member without its share.
    NoShare, "a member without its share asked";
    /// Certificates of everything that is none.
    Certificates, "certificates of its own making";
    /// As many promises as a parent may have, and one more.
    Promises, "promises past their bound";
    /// As many open sessions as a principal may have, and one more.
    Places, "sessions past their bound";
    /// A refresh before it is due.
    Early, "a refresh too early";
    /// While orders contend.
    Contending, "sessions while orders contend";
    /// A committee that is below the minimum that the key has now.
    Minimum, "a committee below the minimum";
    /// A dealer whose identity key was replaced.
    Replaced, "a dealer with a replaced key";
    /// Under an order below that of the generation in use.
    LowerOrder, "an order below the one in use";
    /// Evidence that is judged under another parent than its session's.
    OtherParent, "evidence under another parent";
    /// What no message gets as far as, asked of the libraries themselves.
    Library, "the libraries asked";
}

impl Forgery {
    /// Whether it takes many messages.
    #[must_use]
    pub const fn is_long(self) -> bool {
        matches!(self, Self::Promises | Self::Places)
    }

    /// Whether what it needs is often not there.
    #[must_use]
    pub const fn is_rare(self) -> bool {
        matches!(self, Self::Promises | Self::OtherSecret)
    }
}

impl Side<'_> {
    /// Forges in one way. Where what it needs is not there, nothing.
    pub(super) fn forge(&mut self, forgery: Forgery) {
        let _ = match forgery {
            Forgery::ChangedTerms => self.changed_terms(),
            Forgery::OtherNames => self.other_names(),
            Forgery::Round0 => self.liars_round0(),
            Forgery::Mixed0 => self.mixed_round0(),
            Forgery::Replays => self.replays(),
            Forgery::Round1 => self.liars_round1(),
            Forgery::Mixed1 => self.mixed_round1(),
            Forgery::TwoSets => self.two_sets(),
            Forgery::OneKey => self.one_key(),
            Forgery::OtherSecret => self.other_secret(),
            Forgery::NoShare => self.no_share(),
            Forgery::Certificates => self.own_certificates(),
            Forgery::Promises => self.promises(),
            Forgery::Places => self.places(),
            Forgery::Early => self.early(),
            Forgery::Contending => self.contending(),
            Forgery::Minimum => self.minimum(),
            Forgery::Replaced => self.replaced(),
            Forgery::LowerOrder => self.lower_order(),
            Forgery::OtherParent => self.other_parent(),
            Forgery::Library => self.library(),
        };
    }
}
