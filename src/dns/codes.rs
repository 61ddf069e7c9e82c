//! The response codes and query types we tell apart, and what metrics call them.
//!
//! **Invariant:** both sets are closed, so the label values are bounded whatever clients send.

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr;

use crate::zone::RecordType;

/// Response codes that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
}

/// How many codes there are.
pub(super) const CODES: usize = 7;
/// How many types zones tell apart.
pub(super) const TYPES: usize = 12;

impl Code {
    pub(super) const fn response(self) -> ResponseCode {
        match self {
            Self::NoError => ResponseCode::NoError,
            Self::FormErr => ResponseCode::FormErr,
            Self::ServFail => ResponseCode::ServFail,
            Self::NxDomain => ResponseCode::NXDomain,
            Self::NotImp => ResponseCode::NotImp,
            Self::Refused => ResponseCode::Refused,
            Self::BadVers => ResponseCode::BADVERS,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

pub(super) const fn record_type(asked: rr::RecordType) -> RecordType {
    match asked {
        rr::RecordType::A => RecordType::A,
        rr::RecordType::AAAA => RecordType::Aaaa,
        rr::RecordType::SRV => RecordType::Srv,
        rr::RecordType::SOA => RecordType::Soa,
        rr::RecordType::NS => RecordType::Ns,
        rr::RecordType::CNAME => RecordType::Cname,
        rr::RecordType::TXT => RecordType::Txt,
        rr::RecordType::MX => RecordType::Mx,
        rr::RecordType::PTR => RecordType::Ptr,
        rr::RecordType::CAA => RecordType::Caa,
        rr::RecordType::ANY => RecordType::Any,
        _ => RecordType::Other,
    }
}

pub(super) const fn type_label(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::Aaaa => "AAAA",
        RecordType::Srv => "SRV",
        RecordType::Soa => "SOA",
        RecordType::Ns => "NS",
        RecordType::Cname => "CNAME",
        RecordType::Txt => "TXT",
        RecordType::Mx => "MX",
        RecordType::Ptr => "PTR",
        RecordType::Caa => "CAA",
        RecordType::Any => "ANY",
        RecordType::Other => "other",
    }
}
