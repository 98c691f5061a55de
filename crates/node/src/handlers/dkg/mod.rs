//! Distributed key generation: blueprint section 7 and `spec/ceremony.md`.

macro_rules! later {
    ($($name:ident, $request:ident;)*) => {$(
        pub(crate) mod $name {
            use crate::core::{Deciding, Decision, NodeCore};
            use crate::reads::Reads;
            use crate::refused::{Refused, Stop};
            use quorate_wire::proto::v1;
            pub(crate) struct Ready;
            pub(crate) fn prepare(_: &NodeCore, _: &Reads<'_>, _: Option<&quorate_authz::Caller>, _: &v1::$request) -> Result<Ready, Stop> {
                Err(Refused::new(quorate_wire::RefusalCode::MethodUnknown, "not yet").into())
            }
            impl Ready {
                pub(crate) fn decide(self, _: &mut Deciding<'_>) -> Result<Decision, Refused> {
                    Err(Refused::new(quorate_wire::RefusalCode::MethodUnknown, "not yet"))
                }
            }
        }
    )*};
}
later! { open, DkgOpenRequest; deal, DkgDealRequest; sign, DkgSignRequest; signature, DkgSignatureRequest; certify, PutCertificateRequest; }
