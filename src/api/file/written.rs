//! What is written: the file's own shape, before anybody asks what it means.
//!
//! Every struct refuses keys it does not know. Not here: defaults that depend on another value,
//! references, ranges (`meaning`), ECS task definitions (`definition`).

mod traffic;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

pub(super) use traffic::{
    WrittenBudget, WrittenCompression, WrittenEjection, WrittenKey, WrittenLimit, WrittenMirror,
    WrittenProxyProtocol, WrittenWaiting,
};

use super::definition::WrittenDefinition;
use crate::config::{
    AccessLogSettings, ApiSettings, AutoscalingSettings, DnsSettings, ElbSettings, EventSettings,
    HealthLogSettings, InstanceSettings, Limits, LogSettings, MetadataSettings, MetricsSettings,
    OnExit, RuntimeSettings, Settings, Time,
};
use crate::model::{
    Account, Algorithm, Carrier, ClaimFormat, DesyncMode, ForwardedFor, HookAction,
    LoadBalancerKind, Protocol, ProtocolVersion, StickinessKind, Unauthenticated,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    data_dir: Option<PathBuf>,
    region: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    account: Option<String>,
    domain: Option<String>,
    threads: Option<usize>,
    shutdown_grace: Option<Time>,
    on_exit: Option<OnExit>,
    #[serde(default)]
    log: LogSettings,
    #[serde(default)]
    access_log: AccessLogSettings,
    #[serde(default)]
    health_log: HealthLogSettings,
    #[serde(default)]
    metrics: MetricsSettings,
    #[serde(default)]
    api: ApiSettings,
    #[serde(default)]
    events: EventSettings,
    #[serde(default)]
    metadata: MetadataSettings,
    #[serde(default)]
    dns: DnsSettings,
    #[serde(default)]
    elb: ElbSettings,
    #[serde(default)]
    runtime: RuntimeSettings,
    #[serde(default)]
    instance: Vec<InstanceSettings>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    autoscaling: AutoscalingSettings,
    #[serde(default)]
    pub(super) cluster: Vec<WrittenCluster>,
    #[serde(default)]
    pub(super) namespace: Vec<WrittenNamespace>,
    #[serde(default)]
    pub(super) task_definition: Vec<WrittenDefinition>,
    #[serde(default)]
    pub(super) certificate: Vec<WrittenCertificate>,
    #[serde(default)]
    pub(super) trust_store: Vec<WrittenTrustStore>,
    #[serde(default)]
    pub(super) target_group: Vec<WrittenGroup>,
    #[serde(default)]
    pub(super) load_balancer: Vec<WrittenBalancer>,
    #[serde(default)]
    pub(super) service: Vec<WrittenService>,
}

impl Written {
    pub(super) fn settings(&self) -> Settings {
        let default = Settings::default();
        let account = Account {
            region: self.region.clone().unwrap_or(default.account.region),
            id: self.account.clone().unwrap_or(default.account.id),
            others: self.regions.clone(),
            is_away: false,
        };
        Settings {
            data_dir: self.data_dir.clone().unwrap_or(default.data_dir),
            account,
            domain: self.domain.clone().unwrap_or(default.domain).to_ascii_lowercase(),
            threads: self.threads.unwrap_or(default.threads),
            shutdown_grace: self.shutdown_grace.map_or(default.shutdown_grace, |time| time.0),
            on_exit: self.on_exit.unwrap_or(default.on_exit),
            log: self.log,
            access_log: self.access_log.clone(),
            health_log: self.health_log.clone(),
            metrics: self.metrics,
            api: self.api.clone(),
            events: self.events.clone(),
            metadata: self.metadata,
            dns: self.dns.clone(),
            elb: self.elb.clone(),
            runtime: self.runtime.clone(),
            instance: self.instance.clone(),
            limits: self.limits,
            autoscaling: self.autoscaling,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCluster {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNamespace {
    pub(super) name: String,
    pub(super) negative_ttl: Option<Time>,
}

/// Two PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCertificate {
    pub(super) name: String,
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
}

/// PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTrustStore {
    pub(super) name: String,
    pub(super) ca_certificates: PathBuf,
    #[serde(default)]
    pub(super) revocations: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenGroup {
    pub(super) name: String,
    pub(super) protocol: Option<Protocol>,
    pub(super) protocol_version: Option<ProtocolVersion>,
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) targets: Vec<WrittenTarget>,
    pub(super) deregistration_delay: Option<Time>,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) anomaly_mitigation: Option<bool>,
    pub(super) slow_start: Option<Time>,
    pub(super) stickiness: Option<WrittenStickiness>,
    pub(super) minimum_healthy: Option<u32>,
    pub(super) minimum_healthy_percent: Option<u32>,
    pub(super) retry_budget: Option<WrittenBudget>,
    pub(super) target_concurrency: Option<u32>,
    pub(super) queue: Option<WrittenWaiting>,
    pub(super) hold: Option<WrittenWaiting>,
    pub(super) outlier_ejection: Option<WrittenEjection>,
    #[serde(default)]
    pub(super) health_check: WrittenHealthCheck,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStickiness {
    #[serde(rename = "type")]
    pub(super) kind: StickinessKind,
    pub(super) duration: Option<Time>,
    pub(super) cookie_name: Option<String>,
}

/// `10.0.0.7:8080`, or an address alone, which gets the group's port.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct WrittenTarget {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

impl TryFrom<String> for WrittenTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let whole = text.parse::<SocketAddr>();
        let alone = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match whole {
            Ok(target) => Ok(Self { address: target.ip(), port: Some(target.port()) }),
            Err(_) => alone().map(|address| Self { address, port: None }).map_err(|_| {
                format!("{text:?} is not an address and port such as 10.0.0.7:8080 or [::1]:80")
            }),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHealthCheck {
    pub(super) protocol: Option<Protocol>,
    pub(super) port: Option<WrittenCheckPort>,
    pub(super) path: Option<String>,
    pub(super) interval: Option<Time>,
    pub(super) timeout: Option<Time>,
    pub(super) healthy_threshold: Option<u32>,
    pub(super) unhealthy_threshold: Option<u32>,
    pub(super) matcher: Option<String>,
}

/// A number, or ALB's word for the port that gets the traffic.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a port number or \"traffic-port\"")]
pub(super) enum WrittenCheckPort {
    Number(u16),
    Word(TrafficPort),
}

#[derive(Debug, Deserialize)]
pub(super) enum TrafficPort {
    #[serde(rename = "traffic-port")]
    TrafficPort,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBalancer {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: LoadBalancerKind,
    pub(super) address: Option<IpAddr>,
    pub(super) idle_timeout: Option<Time>,
    pub(super) client_keep_alive: Option<Time>,
    pub(super) desync_mitigation_mode: Option<DesyncMode>,
    pub(super) xff_header_processing: Option<ForwardedFor>,
    pub(super) xff_client_port: Option<bool>,
    pub(super) preserve_host_header: Option<bool>,
    pub(super) drop_invalid_header_fields: Option<bool>,
    #[serde(default)]
    pub(super) listener: Vec<WrittenListener>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenListener {
    pub(super) port: u16,
    pub(super) protocol: Option<Protocol>,
    pub(super) carrier: Option<Carrier>,
    /// The default one first.
    pub(super) certificates: Option<Vec<String>>,
    pub(super) ssl_policy: Option<String>,
    pub(super) mutual_authentication: Option<WrittenMutual>,
    pub(super) trust_store: Option<String>,
    pub(super) ignore_client_certificate_expiry: Option<bool>,
    pub(super) advertise_trust_store_ca_names: Option<bool>,
    pub(super) server_header: Option<bool>,
    #[serde(default)]
    pub(super) response_headers: BTreeMap<String, String>,
    pub(super) jwt_validation: Option<WrittenJwt>,
    pub(super) authenticate_oidc: Option<WrittenOidc>,
    pub(super) rate_limit: Option<WrittenLimit>,
    pub(super) proxy_protocol: Option<WrittenProxyProtocol>,
    pub(super) compression: Option<WrittenCompression>,
    // The default action: one of four.
    pub(super) target_group: Option<String>,
    pub(super) forward: Option<Vec<WrittenWeight>>,
    pub(super) group_stickiness: Option<Time>,
    pub(super) redirect: Option<WrittenRedirect>,
    pub(super) fixed_response: Option<WrittenFixedResponse>,
    #[serde(default)]
    pub(super) rule: Vec<WrittenRule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenMutual {
    #[default]
    Off,
    Passthrough,
    Verify,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRule {
    pub(super) priority: u32,
    pub(super) host_header: Option<Vec<String>>,
    pub(super) host_regex: Option<Vec<String>>,
    pub(super) path_pattern: Option<Vec<String>>,
    pub(super) path_regex: Option<Vec<String>>,
    #[serde(default)]
    pub(super) http_header: Vec<WrittenHeader>,
    pub(super) http_request_method: Option<Vec<String>>,
    #[serde(default)]
    pub(super) query_string: Vec<WrittenQuery>,
    pub(super) source_ip: Option<Vec<String>>,
    pub(super) host_header_rewrite: Option<WrittenRewrite>,
    pub(super) url_rewrite: Option<WrittenRewrite>,
    pub(super) jwt_validation: Option<WrittenJwt>,
    pub(super) authenticate_oidc: Option<WrittenOidc>,
    pub(super) timeout: Option<Time>,
    pub(super) rate_limit: Option<WrittenLimit>,
    pub(super) mirror: Option<WrittenMirror>,
    pub(super) target_group: Option<String>,
    pub(super) forward: Option<Vec<WrittenWeight>>,
    pub(super) group_stickiness: Option<Time>,
    pub(super) redirect: Option<WrittenRedirect>,
    pub(super) fixed_response: Option<WrittenFixedResponse>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenJwt {
    pub(super) jwks_endpoint: String,
    pub(super) issuer: String,
    #[serde(default)]
    pub(super) claims: Vec<WrittenClaim>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenOidc {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) user_info_endpoint: String,
    pub(super) client_id: String,
    /// One line; readable by its owner alone.
    pub(super) client_secret_file: PathBuf,
    pub(super) session_cookie_name: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) session_timeout: Option<Time>,
    #[serde(default)]
    pub(super) extra_params: BTreeMap<String, String>,
    pub(super) on_unauthenticated_request: Option<Unauthenticated>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenClaim {
    pub(super) name: String,
    pub(super) format: ClaimFormat,
    pub(super) values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHeader {
    pub(super) name: String,
    pub(super) values: Option<Vec<String>>,
    pub(super) regex: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenQuery {
    pub(super) values: Vec<WrittenParameter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenParameter {
    pub(super) key: Option<String>,
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRewrite {
    pub(super) regex: String,
    pub(super) replace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRedirect {
    pub(super) status: u16,
    pub(super) protocol: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) path: Option<String>,
    pub(super) query: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenWeight {
    pub(super) target_group: String,
    pub(super) weight: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFixedResponse {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenService {
    pub(super) name: String,
    pub(super) cluster: Option<String>,
    pub(super) task_definition: String,
    pub(super) desired_count: Option<u32>,
    pub(super) namespace: Option<String>,
    pub(super) discovery_name: Option<String>,
    pub(super) discovery_port: Option<u16>,
    #[serde(default)]
    pub(super) load_balancers: Vec<WrittenServiceGroup>,
    pub(super) minimum_healthy_percent: Option<u32>,
    pub(super) maximum_percent: Option<u32>,
    pub(super) health_check_grace_period: Option<Time>,
    pub(super) scheduling_strategy: Option<SchedulingStrategy>,
    pub(super) circuit_breaker: Option<WrittenBreaker>,
    pub(super) registration_delay: Option<Time>,
    pub(super) replace_unready: Option<bool>,
    pub(super) enable_execute_command: Option<bool>,
    pub(super) strategy: Option<WrittenStrategy>,
    pub(super) bake_time: Option<Time>,
    pub(super) linear: Option<WrittenLinear>,
    pub(super) canary: Option<WrittenCanary>,
    pub(super) deployment_alarms: Option<WrittenAlarms>,
    #[serde(default)]
    pub(super) lifecycle_hook: Vec<WrittenHook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum WrittenStrategy {
    Rolling,
    BlueGreen,
    Linear,
    Canary,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLinear {
    pub(super) step_percent: Option<f64>,
    pub(super) step_bake_time: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCanary {
    pub(super) percent: Option<f64>,
    pub(super) bake_time: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAlarms {
    pub(super) names: Vec<String>,
    pub(super) rollback: Option<bool>,
}

/// A webhook when it has a URL, else a pause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHook {
    pub(super) stages: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) timeout: Option<Time>,
    pub(super) timeout_action: Option<HookAction>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum SchedulingStrategy {
    #[default]
    Replica,
    Daemon,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBreaker {
    pub(super) enable: bool,
    pub(super) rollback: Option<bool>,
    pub(super) reset_on_healthy_task: Option<bool>,
    pub(super) threshold: Option<WrittenThreshold>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenThreshold {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenServiceGroup {
    pub(super) target_group: String,
    pub(super) container_port: u16,
    pub(super) alternate_target_group: Option<String>,
    pub(super) production_rule: Option<WrittenTrafficRule>,
    pub(super) test_rule: Option<WrittenTrafficRule>,
}

/// No priority: the listener's default action.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTrafficRule {
    pub(super) load_balancer: String,
    pub(super) port: u16,
    pub(super) priority: Option<u32>,
}
