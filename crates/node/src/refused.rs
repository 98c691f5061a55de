//! A refusal while it is being made: the code, a sentence, and what goes along.

use quorate_types::UnixSeconds;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::{Envelope, Evidence, Refusal};

use crate::reads::Unread;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    code: RefusalCode,
    message: String,
    attached: Option<Box<Attached>>,
}

/// What a refusal may carry besides its texts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Attached {
    evidence: Option<Evidence>,
    certificate: Option<Envelope>,
}

impl Refused {
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), attached: None }
    }

    pub(crate) fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.attached.get_or_insert_default().evidence = Some(evidence);
        self
    }

    pub(crate) fn with_certificate(mut self, certificate: Option<Envelope>) -> Self {
        self.attached.get_or_insert_default().certificate = certificate;
        self
    }

    pub(crate) const fn code(&self) -> RefusalCode {
        self.code
    }

    /// The audit record's word for it. A forged certificate is an alarm: somebody has this node's
    /// identity key.
    pub(crate) fn decision(&self) -> String {
        match self.code {
            RefusalCode::CertificateForged => format!("alarm: {}", self.code.code()),
            code => code.code().to_owned(),
        }
    }

    pub(crate) fn into_message(self, now: UnixSeconds) -> Refusal {
        let attached = self.attached.unwrap_or_default();
        Refusal {
            evidence: attached.evidence,
            certificate: attached.certificate,
            ..self.code.message(self.message, now)
        }
    }
}

/// Why a preparation stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Rows must be read first.
    Unread,
    /// The rows read so far say no.
    Refused(Refused),
}

impl From<Unread> for Stop {
    fn from(_: Unread) -> Self {
        Self::Unread
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
