//! One decoded query answered out of the snapshot: hickory's `RequestHandler`.
//!
//! Flags: AA on everything out of our zones. RA there too: a stub resolver asks us as its recursive
//! server, and in a zone of ours nothing is left to recurse for; Go's resolver moves on from an
//! empty answer that has neither. A refusal has neither, for that client shall ask its next server.
//! Not here: sizes on the wire beyond what has to fit. **Invariant:** every section fits what the
//! client takes: additional records go first and silently, answers go with TC, and those that fit
//! stay (musl before 1.2.4 never asks again over TCP).

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode};
use hickory_server::proto::rr::rdata::{CNAME, HINFO, MX, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{self, DNSClass, Name, RData};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::codes::{Code, record_type};
use super::tally::Tally;
use super::{UDP_PAYLOAD, reply};
use crate::clock;
use crate::metrics::Metrics;
use crate::routing::DataThread;
use crate::zone::{Answer, Data, DnsName, Record, RecordType, SOA_TIMES, Value, Zone};

/// Answers the queries of one data thread.
#[derive(Debug)]
pub(super) struct Answering {
    thread: DataThread,
    /// Never waited for: all who take it run on one thread and hold it over no await. hickory's
    /// trait asks for `Sync`.
    scratch: Mutex<Scratch>,
}

#[derive(Debug)]
struct Scratch {
    rng: fastrand::Rng,
    tally: Tally,
}

/// An answer that owns its records: nothing of the snapshot is held while it is sent.
#[derive(Debug)]
struct Decided {
    metadata: Metadata,
    edns: Option<Edns>,
    answers: Vec<rr::Record>,
    authorities: Vec<rr::Record>,
    additionals: Vec<rr::Record>,
}

impl Answering {
    pub(super) fn new(thread: DataThread, metrics: &Metrics) -> Self {
        let tally = Tally::new(metrics, thread.index);
        Self { thread, scratch: Mutex::new(Scratch { rng: fastrand::Rng::new(), tally }) }
    }

    /// Counts an answer that was given without decoding the query.
    pub(super) fn count_bare(&self, code: Code) {
        self.count(None, RecordType::Other, code);
    }

    fn count(&self, zone: Option<&Zone>, kind: RecordType, code: Code) {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.tally.count(zone, kind, code);
    }

    fn decide(&self, request: &Request) -> Decided {
        let mut decided = Decided::new(request);
        let [query] = request.queries.queries() else {
            self.count_bare(Code::FormErr);
            return decided.with(Code::FormErr);
        };
        let kind = record_type(query.query_type());
        let is_transfer = matches!(query.query_type(), rr::RecordType::AXFR | rr::RecordType::IXFR);
        let refused = if request.metadata.op_code != OpCode::Query {
            Some(Code::NotImp)
        } else if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            // RFC 6891 section 6.1.3.
            Some(Code::BadVers)
        } else if query.query_class() != DNSClass::IN || is_transfer {
            Some(Code::Refused)
        } else {
            None
        };
        if let Some(code) = refused {
            self.count(None, kind, code);
            return decided.with(code);
        }
        let routing = self.thread.reader.load();
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { rng, tally } = &mut *scratch;
        tally.follow(routing.generation, &routing.zones);
        let answer = routing.zones.lookup(&wire(query.name()), kind, rng);
        answer.leaves(self.thread.index, clock::now());
        let code = decided.fill(&answer, query.original().name());
        tally.count(answer.zone(), kind, code);
        decided.with(code)
    }
}

#[async_trait]
impl RequestHandler for Answering {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut decided = self.decide(request);
        decided.fit(request);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &decided.edns {
            builder.edns(edns);
        }
        let Decided { metadata, answers, authorities, additionals, .. } = &decided;
        let message = builder.build(*metadata, answers, authorities, [], additionals);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be encoded");
                let metadata = decided.with(Code::ServFail).metadata;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

impl Decided {
    fn new(request: &Request) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        // Nothing was validated, and nothing could have been left unchecked (RFC 4035 section
        // 3.1.6).
        metadata.checking_disabled = false;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD).set_version(0);
            // RFC 3225 section 3: copied.
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { metadata, edns, answers, authorities, additionals }
    }

    fn with(mut self, code: Code) -> Self {
        self.metadata.response_code = code.response();
        self
    }

    /// Takes over what the zones say of `asked`; the names keep the case the client asked in.
    fn fill(&mut self, answer: &Answer<'_>, asked: &Name) -> Code {
        let is_ours = answer.zone().is_some();
        self.metadata.authoritative = is_ours;
        self.metadata.recursion_available = is_ours;
        match answer {
            Answer::Elsewhere => Code::Refused,
            Answer::Records { answers, additionals, denied, .. } => {
                self.answers = answers.iter().filter_map(|r| record(r, asked)).collect();
                self.additionals = additionals.iter().filter_map(|r| record(r, asked)).collect();
                let Some(denied) = denied else { return Code::NoError };
                self.authorities = denial(denied.zone);
                if denied.exists { Code::NoError } else { Code::NxDomain }
            }
            Answer::NoData(zone) => {
                self.authorities = negative(zone, asked);
                Code::NoError
            }
            Answer::NoName(zone) => {
                self.authorities = negative(zone, asked);
                Code::NxDomain
            }
        }
    }

    /// Leaves out what the client cannot take.
    fn fit(&mut self, request: &Request) {
        let limit = reply::limit(request);
        if self.most_bytes(request) <= usize::from(limit) {
            return;
        }
        while !self.fits(request, limit) {
            // RFC 2181 section 9: only what belongs to the answer is worth a TC.
            if self.additionals.pop().is_some() {
                continue;
            }
            self.metadata.truncation = true;
            if self.answers.pop().is_none() && self.authorities.pop().is_none() {
                return;
            }
        }
    }

    /// The length without any compression: cheap, and mostly enough to know that everything fits.
    fn most_bytes(&self, request: &Request) -> usize {
        /// Fields of a record, and the longest data without a name: SOA's five numbers.
        const FIXED: usize = 10 + 20;
        const OPT: usize = 11;
        let records = self.answers.iter().chain(&self.authorities).chain(&self.additionals);
        let names = |record: &rr::Record| match &record.data {
            RData::SOA(soa) => soa.mname.len() + soa.rname.len() + 2,
            RData::SRV(srv) => srv.target.len() + 1,
            RData::NS(ns) => ns.0.len() + 1,
            RData::CNAME(cname) => cname.0.len() + 1,
            RData::PTR(ptr) => ptr.0.len() + 1,
            RData::MX(mx) => mx.exchange.len() + 1,
            RData::TXT(txt) => txt.txt_data.iter().map(|string| string.len() + 1).sum(),
            RData::Unknown { rdata, .. } => rdata.anything.len(),
            _ => 0,
        };
        let records = records.map(|record| record.name.len() + 1 + FIXED + names(record));
        super::HEADER_BYTES + request.queries.as_bytes().len() + OPT + records.sum::<usize>()
    }

    /// Whether the encoder writes all of it. Its length alone does not tell: the encoder needs room
    /// for a whole name before it compresses it.
    fn fits(&self, request: &Request, limit: u16) -> bool {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &self.edns {
            builder.edns(edns);
        }
        let mut metadata = self.metadata;
        metadata.truncation = false;
        let message =
            builder.build(metadata, &self.answers, &self.authorities, [], &self.additionals);
        message.destructive_emit(&mut encoder).is_ok_and(|written| !written.truncation)
    }
}

/// The SOA that says how long a denial holds (RFC 2308 section 3): its TTL is the smaller of its
/// own and its minimum, which in our zones are the same.
fn negative(zone: &Zone, asked: &Name) -> Vec<rr::Record> {
    let mut soa = record(&zone.soa(), asked);
    if let Some(soa) = &mut soa {
        // The apex is a suffix of what was asked for.
        soa.name = asked.trim_to(zone.apex.labels().count());
    }
    soa.into_iter().collect()
}

/// The same for the last name of a chain of CNAMEs.
fn denial(zone: &Zone) -> Vec<rr::Record> {
    let owner = name(&zone.apex);
    owner.and_then(|owner| record(&zone.soa(), &owner)).into_iter().collect()
}

/// None for a name that hickory does not take, which the zones exclude.
fn record(record: &Record<'_>, asked: &Name) -> Option<rr::Record> {
    let owner = record.owner.map_or_else(|| Some(asked.clone()), name)?;
    let data = match record.data {
        Data::Address(std::net::IpAddr::V4(address)) => RData::A(address.into()),
        Data::Address(std::net::IpAddr::V6(address)) => RData::AAAA(address.into()),
        Data::Srv { port, target } => RData::SRV(SRV::new(1, 1, port, name(target)?)),
        Data::Soa(zone) => {
            let (primary, mailbox) = (name(&zone.primary)?, name(&zone.mailbox)?);
            let minimum = zone.negative_ttl;
            let (refresh, retry, expire) = SOA_TIMES;
            RData::SOA(SOA::new(primary, mailbox, zone.serial, refresh, retry, expire, minimum))
        }
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Value(of) => value(of)?,
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Minimal => RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())),
    };
    Some(rr::Record::from_rdata(owner, record.ttl, data))
}

fn value(of: &Value) -> Option<RData> {
    Some(match of {
        Value::Address(std::net::IpAddr::V4(address)) => RData::A((*address).into()),
        Value::Address(std::net::IpAddr::V6(address)) => RData::AAAA((*address).into()),
        Value::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Value::Ns(target) => RData::NS(NS(name(target)?)),
        Value::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Value::Mx { preference, name: host } => RData::MX(MX::new(*preference, name(host)?)),
        Value::Srv { priority, weight, port, name: host } => {
            RData::SRV(SRV::new(*priority, *weight, *port, name(host)?))
        }
        Value::Txt(strings) => {
            RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
        }
        // RFC 8659 section 4.1; as bytes, for hickory knows some tags only.
        Value::Caa { flags, tag, value } => {
            let mut bytes = vec![*flags, u8::try_from(tag.len()).ok()?];
            bytes.extend_from_slice(tag.as_bytes());
            bytes.extend_from_slice(value);
            RData::Unknown { code: rr::RecordType::CAA, rdata: NULL::with(bytes) }
        }
    })
}

fn name(name: &DnsName) -> Option<Name> {
    Name::from_labels(name.labels()).ok()
}

/// The wire form, lower case.
fn wire(name: &rr::LowerName) -> Vec<u8> {
    let mut wire = Vec::with_capacity(64);
    for label in name.iter() {
        wire.push(u8::try_from(label.len()).unwrap_or_default());
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    wire.push(0);
    wire
}
