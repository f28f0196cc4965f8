//! `dns_sd_configs`: targets in DNS records.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::config::DnsConfig;
use super::run::{Outlet, Surroundings, refresh_forever};
use super::{TARGETS_MAX, TargetGroup};
use crate::discovery::static_::ADDRESS;

const NAME: &str = "__meta_dns_name";
const SRV_TARGET: &str = "__meta_dns_srv_record_target";
const SRV_PORT: &str = "__meta_dns_srv_record_port";
const MX_TARGET: &str = "__meta_dns_mx_record_target";
const NS_TARGET: &str = "__meta_dns_ns_record_target";

/// Never ends.
pub(super) async fn run(config: DnsConfig, around: Surroundings, outlet: Outlet) {
    let what = config.names.join(",");
    let interval_ms = config.refresh_interval_ms;
    let last = parking_lot::Mutex::new(BTreeMap::<String, TargetGroup>::new());
    refresh_forever("dns", &what, interval_ms, &around, &outlet, async || {
        // Anew each time: the system's configuration may have changed.
        let resolver = resolver(&around)?;
        let names = config.names.iter().map(|name| look_up(&resolver, &config, name));
        let mut failure = None;
        for (name, outcome) in config.names.iter().zip(join_all(names).await) {
            around.metrics.dns_lookups.inc();
            match outcome {
                Ok(group) => {
                    last.lock().insert(name.clone(), group);
                }
                Err(error) => {
                    around.metrics.dns_lookup_failures.inc();
                    failure = Some(error);
                }
            }
        }
        // A name that failed keeps its targets, and the others get theirs.
        outlet.put(last.lock().values().cloned().collect());
        match failure {
            Some(error) => Err(error),
            None => Ok(last.lock().values().cloned().collect()),
        }
    })
    .await;
}

fn resolver(around: &Surroundings) -> Result<TokioResolver, String> {
    let mut builder = match around.name_server {
        None => TokioResolver::builder_tokio()
            .map_err(|e| format!("cannot read the system's DNS configuration: {e}"))?,
        Some(server) => {
            let mut udp = ConnectionConfig::udp();
            let mut tcp = ConnectionConfig::tcp();
            (udp.port, tcp.port) = (server.port(), server.port());
            let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|e| format!("cannot look names up: {e}"))
}

async fn look_up(
    resolver: &TokioResolver,
    config: &DnsConfig,
    name: &str,
) -> Result<TargetGroup, String> {
    let kind = match config.kind.as_str() {
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "MX" => RecordType::MX,
        "NS" => RecordType::NS,
        _ => RecordType::SRV,
    };
    let mut group = TargetGroup { source: name.to_owned(), ..TargetGroup::default() };
    let answer = match resolver.lookup(name, kind).await {
        Ok(answer) => answer,
        // The name has no such records, or does not exist: that is an answer, too.
        Err(e) if e.is_no_records_found() => return Ok(group),
        Err(e) => return Err(format!("could not resolve {name:?}: {e}")),
    };
    for record in answer.answers() {
        let port = config.port;
        let (address, labels) = match &record.data {
            RData::A(a) => (format!("{}:{port}", a.0), [None, None]),
            RData::AAAA(a) => (format!("[{}]:{port}", a.0), [None, None]),
            RData::SRV(srv) => (
                format!("{}:{}", host(&srv.target), srv.port),
                [
                    Some((SRV_TARGET, srv.target.to_string())),
                    Some((SRV_PORT, srv.port.to_string())),
                ],
            ),
            RData::MX(mx) => (
                format!("{}:{port}", host(&mx.exchange)),
                [Some((MX_TARGET, mx.exchange.to_string())), None],
            ),
            RData::NS(ns) => {
                (format!("{}:{port}", host(&ns.0)), [Some((NS_TARGET, ns.0.to_string())), None])
            }
            // An alias on the way to the records asked for.
            _ => continue,
        };
        let mut target =
            BTreeMap::from([(ADDRESS.to_owned(), address), (NAME.to_owned(), name.to_owned())]);
        target.extend(labels.into_iter().flatten().map(|(n, v)| (n.to_owned(), v)));
        group.targets.push(target);
        if group.targets.len() > TARGETS_MAX {
            return Err(format!("{name:?} has more than {TARGETS_MAX} records"));
        }
    }
    // Servers give records in changing order.
    group.targets.sort();
    Ok(group)
}

/// A name without the dot at its end.
fn host(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}
