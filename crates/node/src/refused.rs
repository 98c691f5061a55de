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
    item: u32,
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

    /// Names the one item of the request that it is about, by its position.
    pub(crate) fn with_item(mut self, position: Option<usize>) -> Self {
        let number = position.and_then(|position| u32::try_from(position.checked_add(1)?).ok());
        if let Some(number) = number {
            self.attached.get_or_insert_default().item = number;
        }
        self
    }

    pub(crate) const fn code(&self) -> RefusalCode {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
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
            item: attached.item,
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
