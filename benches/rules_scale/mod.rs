//! A made-up cluster: machines, containers, services and their metrics, and rules about
//! them in the style of common mixins and of generated service level objectives.

use std::fmt::Write as _;

/// How large a cluster, and how many rules of each kind.
pub struct Scale {
    pub name: &'static str,
    pub nodes: usize,
    pub pods: usize,
    pub namespaces: usize,
    pub services: usize,
    pub instances: usize,
    pub routes: usize,
    pub codes: &'static [&'static str],
    pub bounds: &'static [&'static str],
    /// Services whose rules share a group.
    pub services_per_group: usize,
}

pub const SCALES: [Scale; 2] = [
    Scale {
        name: "large",
        nodes: 120,
        pods: 1_700,
        namespaces: 20,
        services: 50,
        instances: 4,
        routes: 9,
        codes: &["200", "404", "500"],
        bounds: &["0.005", "0.025", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"],
        services_per_group: 1,
    },
    Scale {
        name: "small",
        nodes: 10,
        pods: 150,
        namespaces: 20,
        services: 330,
        instances: 1,
        routes: 1,
        codes: &["200", "500"],
        bounds: &["0.1", "0.25", "1", "2.5", "+Inf"],
        services_per_group: 6,
    },
];

/// How values go.
#[derive(Clone, Copy)]
pub enum Course {
    /// Grows by about so much a sample.
    Counter(f64),
    /// Wanders around a level.
    Gauge(f64),
    Constant(f64),
}

pub struct Series {
    pub labels: Vec<(String, String)>,
    course: Course,
}

impl Series {
    /// The value of sample `i`; `seed` tells series apart.
    pub fn value(&self, seed: i64, i: i64) -> f64 {
        let noise = ((seed * 7919 + i * 104_729) % 1000) as f64 / 1000.0;
        match self.course {
            Course::Counter(step) => {
                (step * (i as f64 + noise) * (1.0 + (seed % 7) as f64)).floor()
            }
            Course::Gauge(level) => (level * (0.8 + 0.4 * noise) * 64.0).round() / 64.0,
            Course::Constant(value) => value,
        }
    }
}

#[derive(Default)]
pub struct Data {
    pub series: Vec<Series>,
}

impl Data {
    pub fn add(&mut self, name: &str, course: Course, labels: &[(&str, &str)]) {
        let mut labels: Vec<(String, String)> =
            labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        labels.push(("__name__".to_owned(), name.to_owned()));
        labels.sort();
        self.series.push(Series { labels, course });
    }
}

use Course::{Constant, Counter, Gauge};

impl Scale {
    pub fn data(&self) -> Data {
        let mut data = Data::default();
        (0..self.nodes).for_each(|n| node(&mut data, n));
        for namespace in 0..self.namespaces {
            deployments(&mut data, namespace);
        }
        for pod in 0..self.pods {
            self.pod(&mut data, pod);
        }
        for service in 0..self.services {
            self.service(&mut data, service);
        }
        data
    }

    fn pod(&self, data: &mut Data, number: usize) {
        let namespace = format!("ns-{}", number % self.namespaces);
        let name = format!("app-{}-{number:05x}-7d9f", number / 5);
        let node = format!("node-{}", number % self.nodes);
        let pod = [("namespace", namespace.as_str()), ("pod", name.as_str())];
        let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
            pod.into_iter().chain(more.iter().copied()).collect()
        };
        let state = [("job", "kube-state-metrics")];
        for phase in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
            let is = f64::from(u8::from(phase == "Running"));
            let labels = [with(&state), vec![("phase", phase)]].concat();
            data.add("kube_pod_status_phase", Constant(is), &labels);
        }
        let on_node = [with(&state), vec![("node", &node), ("host_ip", "10.0.0.1")]].concat();
        data.add("kube_pod_info", Constant(1.0), &on_node);
        let owner = with(&[("job", "kube-state-metrics"), ("owner_kind", "ReplicaSet")]);
        data.add("kube_pod_owner", Constant(1.0), &owner);
        for container in ["app", "proxy"] {
            let c = [("container", container)];
            let kube = [with(&state), c.to_vec()].concat();
            data.add("kube_pod_container_status_restarts_total", Counter(0.001), &kube);
            data.add("kube_pod_container_status_ready", Constant(1.0), &kube);
            let waits = [kube.clone(), vec![("reason", "CrashLoopBackOff")]].concat();
            data.add("kube_pod_container_status_waiting_reason", Constant(0.0), &waits);
            for (resource, amount) in [("cpu", 0.5), ("memory", 2e8)] {
                let labels = [kube.clone(), vec![("resource", resource)]].concat();
                data.add("kube_pod_container_resource_requests", Constant(amount), &labels);
                data.add("kube_pod_container_resource_limits", Constant(amount * 2.0), &labels);
            }
            let used = [
                with(&[("job", "kubelet"), ("image", "registry/app:1")]),
                c.to_vec(),
                vec![("node", node.as_str())],
            ]
            .concat();
            for (metric, course) in [
                ("container_cpu_usage_seconds_total", Counter(0.9)),
                ("container_cpu_cfs_periods_total", Counter(150.0)),
                ("container_cpu_cfs_throttled_periods_total", Counter(6.0)),
                ("container_memory_working_set_bytes", Gauge(1.5e8)),
                ("container_memory_rss", Gauge(1.2e8)),
                ("container_memory_cache", Gauge(3e7)),
            ] {
                data.add(metric, course, &used);
            }
        }
        for direction in ["receive", "transmit"] {
            let labels = with(&[("job", "kubelet"), ("interface", "eth0")]);
            let bytes = format!("container_network_{direction}_bytes_total");
            data.add(&bytes, Counter(9e4), &labels);
        }
    }

    fn service(&self, data: &mut Data, number: usize) {
        let service = format!("svc-{number}");
        let namespace = format!("ns-{}", number % self.namespaces);
        for instance in 0..self.instances {
            let instance = format!("10.1.{number}.{instance}:8080");
            let base = [
                ("instance", instance.as_str()),
                ("job", service.as_str()),
                ("namespace", namespace.as_str()),
                ("service", service.as_str()),
            ];
            data.add("up", Constant(1.0), &base);
            data.add("process_resident_memory_bytes", Gauge(4e8), &base);
            for route in 0..self.routes {
                let route = format!("/api/v1/r{route}");
                let at = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
                    let route = [("route", route.as_str())];
                    base.into_iter().chain(route).chain(more.iter().copied()).collect()
                };
                for code in self.codes {
                    let step = if *code == "500" { 0.02 } else { 25.0 };
                    data.add("http_requests_total", Counter(step), &at(&[("code", code)]));
                }
                for (i, le) in self.bounds.iter().enumerate() {
                    let step = 3.0 * (i + 1) as f64;
                    let name = "http_request_duration_seconds_bucket";
                    data.add(name, Counter(step), &at(&[("le", le)]));
                }
                let all = 3.0 * self.bounds.len() as f64;
                data.add("http_request_duration_seconds_count", Counter(all), &at(&[]));
                data.add("http_request_duration_seconds_sum", Counter(1.0), &at(&[]));
            }
        }
    }

    /// The rules.
    pub fn rules(&self) -> RuleFile {
        let mut file = RuleFile::default();
        for first in (0..self.services).step_by(self.services_per_group) {
            file.group(&format!("slo-{first}"));
            for service in first..(first + self.services_per_group).min(self.services) {
                service_rules(&mut file, &format!("svc-{service}"));
            }
        }
        for namespace in 0..self.namespaces {
            file.group(&format!("workloads-{namespace}"));
            namespace_rules(&mut file, &format!("ns-{namespace}"));
        }
        for (name, rules) in [("node", node_rules as fn(&mut RuleFile)), ("cluster", cluster_rules)]
        {
            file.group(name);
            rules(&mut file);
        }
        file
    }
}

fn node(data: &mut Data, number: usize) {
    let instance = format!("node-{number}");
    let base = [("instance", instance.as_str()), ("job", "node-exporter")];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        base.into_iter().chain(more.iter().copied()).collect()
    };
    data.add("up", Constant(1.0), &base);
    for cpu in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        for mode in ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"] {
            let step = if mode == "idle" { 1.6 } else { 0.1 };
            let labels = with(&[("cpu", cpu), ("mode", mode)]);
            data.add("node_cpu_seconds_total", Counter(step), &labels);
        }
    }
    for (device, mountpoint) in [("sda1", "/"), ("sda2", "/var"), ("sdb1", "/data")] {
        let labels = with(&[("device", device), ("fstype", "ext4"), ("mountpoint", mountpoint)]);
        for (metric, level) in
            [("size_bytes", 1e11), ("avail_bytes", 4e10), ("files", 6e6), ("files_free", 5e6)]
        {
            data.add(&format!("node_filesystem_{metric}"), Gauge(level), &labels);
        }
        data.add("node_filesystem_readonly", Constant(0.0), &labels);
    }
    for device in ["eth0", "eth1"] {
        for direction in ["receive", "transmit"] {
            for (what, step) in [("bytes", 1e6), ("packets", 2e3), ("errs", 0.001), ("drop", 0.01)]
            {
                let name = format!("node_network_{direction}_{what}_total");
                data.add(&name, Counter(step), &with(&[("device", device)]));
            }
        }
    }
    for device in ["sda", "sdb"] {
        for metric in ["io_time_seconds_total", "io_time_weighted_seconds_total"] {
            data.add(&format!("node_disk_{metric}"), Counter(0.7), &with(&[("device", device)]));
        }
    }
    for (metric, level) in [
        ("node_memory_MemTotal_bytes", 6.4e10),
        ("node_memory_MemAvailable_bytes", 3e10),
        ("node_memory_Buffers_bytes", 1e9),
        ("node_memory_Cached_bytes", 1e10),
        ("node_load1", 3.0),
        ("node_load5", 3.0),
    ] {
        data.add(metric, Gauge(level), &base);
    }
    data.add("node_vmstat_pgmajfault", Counter(2.0), &base);
    data.add("node_boot_time_seconds", Constant(1.7e9), &base);
}

fn deployments(data: &mut Data, namespace: usize) {
    let namespace = format!("ns-{namespace}");
    for number in 0..8 {
        let deployment = format!("app-{number}");
        let labels = [
            ("deployment", deployment.as_str()),
            ("job", "kube-state-metrics"),
            ("namespace", namespace.as_str()),
        ];
        for metric in [
            "kube_deployment_spec_replicas",
            "kube_deployment_status_replicas_available",
            "kube_deployment_status_replicas_updated",
            "kube_deployment_metadata_generation",
            "kube_deployment_status_observed_generation",
        ] {
            data.add(metric, Constant(5.0), &labels);
        }
    }
}

/// A rule file, and what is in it.
#[derive(Default)]
pub struct RuleFile {
    pub text: String,
    pub groups: usize,
    pub rules: usize,
    /// Expressions of recording rules.
    pub recorded: Vec<String>,
}

impl RuleFile {
    fn group(&mut self, name: &str) {
        if self.groups == 0 {
            self.text.push_str("groups:\n");
        }
        self.groups += 1;
        let _ = writeln!(self.text, "- name: {name}\n  rules:");
    }

    fn record(&mut self, name: &str, expr: &str) {
        self.rules += 1;
        self.recorded.push(expr.to_owned());
        let _ = writeln!(self.text, "  - record: {name}\n    expr: >-\n      {expr}");
    }

    fn alert(&mut self, name: &str, hold: &str, summary: &str, expr: &str) {
        self.rules += 1;
        let _ = writeln!(
            self.text,
            "  - alert: {name}\n    expr: >-\n      {expr}\n    for: {hold}\n    labels: {{severity: page}}\n    annotations: {{summary: '{summary}'}}"
        );
    }
}

/// Service level objectives of one service: error budget and latency.
fn service_rules(file: &mut RuleFile, service: &str) {
    let requests = format!("http_requests_total{{job=\"{service}\"}}");
    let errors = format!("http_requests_total{{job=\"{service}\",code=~\"5..\"}}");
    let bucket = format!("http_request_duration_seconds_bucket{{job=\"{service}\"}}");
    let name = service.replace('-', "_");
    file.record(
        "service_code:http_requests:rate5m",
        &format!("sum by (service, code) (rate({requests}[5m]))"),
    );
    for window in ["5m", "30m", "1h"] {
        file.record(
            &format!("service:http_errors:ratio_rate{window}"),
            &format!(
                "sum by (service) (rate({errors}[{window}])) / sum by (service) (rate({requests}[{window}]))"
            ),
        );
    }
    for (alert, long, short, factor) in [("Fast", "1h", "5m", "14.4"), ("Slow", "30m", "5m", "6")] {
        let ratio = |w: &str| format!("service:http_errors:ratio_rate{w}{{service=\"{service}\"}}");
        file.alert(
            &format!("ErrorBudgetBurn{alert}_{name}"),
            "2m",
            "{{ $labels.service }} burns its budget at {{ $value | humanizePercentage }}",
            &format!(
                "{} > ({factor} * 0.001) and {} > ({factor} * 0.001)",
                ratio(long),
                ratio(short)
            ),
        );
    }
    for (quantile, label) in [("0.99", "p99"), ("0.5", "p50")] {
        file.record(
            &format!("service_route:http_latency:{label}"),
            &format!(
                "histogram_quantile({quantile}, sum by (service, route, le) (rate({bucket}[5m])))"
            ),
        );
    }
    file.alert(
        &format!("HighLatency_{name}"),
        "10m",
        "{{ $labels.route }} takes {{ $value | humanizeDuration }}",
        &format!("service_route:http_latency:p99{{service=\"{service}\"}} > 5"),
    );
    let within = |le: &str| {
        format!(
            "sum by (service) (rate(http_request_duration_seconds_bucket{{job=\"{service}\",le=\"{le}\"}}[5m]))"
        )
    };
    file.record(
        "service:http_apdex:rate5m",
        &format!(
            "({} + {}) / 2 / sum by (service) (rate(http_request_duration_seconds_count{{job=\"{service}\"}}[5m]))",
            within("0.25"),
            within("1")
        ),
    );
    file.alert(
        &format!("RouteErrors_{name}"),
        "5m",
        "{{ $labels.route }} fails",
        &format!(
            "sum by (route) (rate({errors}[5m])) / sum by (route) (rate({requests}[5m])) > 0.05"
        ),
    );
    file.record(
        "service:http_imbalance:rate5m",
        &format!(
            "max by (service) (sum by (service, instance) (rate({requests}[5m]))) / avg by (service) (sum by (service, instance) (rate({requests}[5m])))"
        ),
    );
    file.alert(
        &format!("NoTraffic_{name}"),
        "10m",
        "nobody asks",
        &format!(
            "sum by (service) (rate({requests}[10m])) == 0 or absent(up{{job=\"{service}\"}})"
        ),
    );
    file.alert(
        &format!("InstanceDown_{name}"),
        "5m",
        "{{ $labels.instance }} is down",
        &format!("up{{job=\"{service}\"}} == 0"),
    );
}

/// Workloads of one namespace.
fn namespace_rules(file: &mut RuleFile, namespace: &str) {
    let ns = format!("namespace=\"{namespace}\"");
    let ksm = format!("job=\"kube-state-metrics\",{ns}");
    file.record(
        "namespace_pod_container:cpu_usage:rate5m",
        &format!(
            "sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{{job=\"kubelet\",image!=\"\",{ns}}}[5m])) * on (namespace, pod) group_left (node) topk by (namespace, pod) (1, max by (namespace, pod, node) (kube_pod_info{{node!=\"\",{ns}}}))"
        ),
    );
    file.record(
        "namespace_pod_container:memory_working_set",
        &format!(
            "container_memory_working_set_bytes{{job=\"kubelet\",image!=\"\",{ns}}} * on (namespace, pod) group_left () max by (namespace, pod) (kube_pod_info{{node!=\"\",{ns}}})"
        ),
    );
    for resource in ["cpu", "memory"] {
        for kind in ["requests", "limits"] {
            file.record(
                &format!("namespace:kube_pod_{kind}_{resource}:sum"),
                &format!(
                    "sum by (namespace) (sum by (namespace, pod) (max by (namespace, pod, container) (kube_pod_container_resource_{kind}{{resource=\"{resource}\",{ksm}}}) * on (namespace, pod) group_left () max by (namespace, pod) (kube_pod_status_phase{{phase=~\"Pending|Running\",{ksm}}} == 1)))"
                ),
            );
        }
    }
    file.alert(
        "PodCrashLooping",
        "15m",
        "{{ $labels.pod }}/{{ $labels.container }} crash-loops",
        &format!(
            "max_over_time(kube_pod_container_status_waiting_reason{{reason=\"CrashLoopBackOff\",{ksm}}}[5m]) >= 1"
        ),
    );
    file.alert(
        "PodNotReady",
        "15m",
        "{{ $labels.pod }} is not ready",
        &format!(
            "sum by (namespace, pod) (max by (namespace, pod) (kube_pod_status_phase{{phase=~\"Pending|Unknown|Failed\",{ksm}}}) * on (namespace, pod) group_left (owner_kind) topk by (namespace, pod) (1, max by (namespace, pod, owner_kind) (kube_pod_owner{{owner_kind!=\"Job\",{ns}}}))) > 0"
        ),
    );
    file.alert(
        "DeploymentReplicasMismatch",
        "15m",
        "{{ $labels.deployment }} lacks replicas",
        &format!(
            "(kube_deployment_spec_replicas{{{ksm}}} > kube_deployment_status_replicas_available{{{ksm}}}) and (changes(kube_deployment_status_replicas_updated{{{ksm}}}[10m]) == 0)"
        ),
    );
    file.alert(
        "CPUThrottlingHigh",
        "15m",
        "{{ $value | humanizePercentage }} throttling of {{ $labels.container }}",
        &format!(
            "sum by (container, pod, namespace) (increase(container_cpu_cfs_throttled_periods_total{{container!=\"\",{ns}}}[5m])) / sum by (container, pod, namespace) (increase(container_cpu_cfs_periods_total{{{ns}}}[5m])) > 0.9"
        ),
    );
    file.alert(
        "ContainerNearMemoryLimit",
        "10m",
        "{{ $labels.pod }} is at {{ $value | humanizePercentage }} of its memory",
        &format!(
            "max by (namespace, pod, container) (container_memory_working_set_bytes{{{ns}}}) / on (namespace, pod, container) kube_pod_container_resource_limits{{resource=\"memory\",{ksm}}} > 0.44"
        ),
    );
    file.record(
        "namespace:network_receive_bytes:rate5m",
        &format!("sum by (namespace) (rate(container_network_receive_bytes_total{{{ns}}}[5m]))"),
    );
}

/// Machines, over the whole cluster.
fn node_rules(file: &mut RuleFile) {
    let job = "job=\"node-exporter\"";
    file.record(
        "instance:node_cpu_utilisation:rate5m",
        &format!("1 - avg without (cpu) (sum without (mode) (rate(node_cpu_seconds_total{{{job},mode=~\"idle|iowait|steal\"}}[5m])))"),
    );
    file.record(
        "instance:node_num_cpu:sum",
        &format!("count without (cpu, mode) (node_cpu_seconds_total{{{job},mode=\"idle\"}})"),
    );
    file.record(
        "instance:node_load1_per_cpu:ratio",
        &format!("node_load1{{{job}}} / instance:node_num_cpu:sum{{{job}}}"),
    );
    file.record(
        "instance:node_memory_utilisation:ratio",
        &format!(
            "1 - node_memory_MemAvailable_bytes{{{job}}} / node_memory_MemTotal_bytes{{{job}}}"
        ),
    );
    file.record(
        "instance:node_vmstat_pgmajfault:rate5m",
        &format!("rate(node_vmstat_pgmajfault{{{job}}}[5m])"),
    );
    for metric in ["io_time_seconds", "io_time_weighted_seconds"] {
        file.record(
            &format!("instance_device:node_disk_{metric}:rate5m"),
            &format!("rate(node_disk_{metric}_total{{{job},device!=\"\"}}[5m])"),
        );
    }
    for direction in ["receive", "transmit"] {
        for what in ["bytes", "drop"] {
            file.record(
                &format!("instance:node_network_{direction}_{what}_excluding_lo:rate5m"),
                &format!("sum without (device) (rate(node_network_{direction}_{what}_total{{{job},device!=\"lo\"}}[5m]))"),
            );
        }
        file.alert(
            &format!("NodeNetwork{direction}Errs"),
            "1h",
            "{{ $labels.device }} of {{ $labels.instance }} has errors",
            &format!("rate(node_network_{direction}_errs_total{{{job}}}[2m]) / rate(node_network_{direction}_packets_total{{{job}}}[2m]) > 0.01"),
        );
    }
    let fs = format!("{{{job},fstype!=\"\"}}");
    for (alert, percent) in [("AlmostOutOfSpace5", 5), ("AlmostOutOfSpace3", 3)] {
        file.alert(
            &format!("NodeFilesystem{alert}"),
            "30m",
            "{{ $labels.mountpoint }} has {{ printf \"%.2f\" $value }}% left",
            &format!("(node_filesystem_avail_bytes{fs} / node_filesystem_size_bytes{fs} * 100 < {percent} and node_filesystem_readonly{fs} == 0)"),
        );
        file.alert(
            &format!("NodeFilesystemFiles{alert}"),
            "1h",
            "{{ $labels.mountpoint }} has {{ printf \"%.2f\" $value }}% of its files left",
            &format!("(node_filesystem_files_free{fs} / node_filesystem_files{fs} * 100 < {percent} and node_filesystem_readonly{fs} == 0)"),
        );
    }
    for (hours, percent) in [(24, 15), (4, 10)] {
        file.alert(
            &format!("NodeFilesystemSpaceFillingUp{hours}"),
            "1h",
            "{{ $labels.mountpoint }} fills up",
            &format!("(node_filesystem_avail_bytes{fs} / node_filesystem_size_bytes{fs} * 100 < {percent} and predict_linear(node_filesystem_avail_bytes{fs}[1h], {hours} * 3600) < 0 and node_filesystem_readonly{fs} == 0)"),
        );
    }
    file.alert("NodeDown", "5m", "{{ $labels.instance }} is down", &format!("up{{{job}}} == 0"));
}

/// Everything in the cluster.
fn cluster_rules(file: &mut RuleFile) {
    file.record(
        "cluster:node_cpu:ratio_rate5m",
        "sum(rate(node_cpu_seconds_total{job=\"node-exporter\",mode!=\"idle\",mode!=\"iowait\",mode!=\"steal\"}[5m])) / count(sum without (mode) (node_cpu_seconds_total{job=\"node-exporter\"}))",
    );
    file.record(
        "namespace:container_cpu_usage_seconds_total:sum_rate",
        "sum by (namespace) (rate(container_cpu_usage_seconds_total{job=\"kubelet\",image!=\"\",container!=\"\"}[5m]))",
    );
    file.record(
        "namespace:container_memory_usage_bytes:sum",
        "sum by (namespace) (container_memory_rss{job=\"kubelet\",image!=\"\",container!=\"\"} + container_memory_cache{job=\"kubelet\",image!=\"\",container!=\"\"})",
    );
    for (level, code) in [("all", ""), ("errors", "code=~\"5..\"")] {
        file.record(
            &format!("cluster:http_requests_{level}:rate5m"),
            &format!("sum(rate(http_requests_total{{{code}}}[5m]))"),
        );
    }
    file.record(
        "cluster_quantile:http_request_duration_seconds:p99",
        "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
    );
    file.record("job:up:ratio", "sum by (job) (up) / count by (job) (up)");
    file.alert(
        "TargetDown",
        "10m",
        "{{ printf \"%.4g\" $value }}% of {{ $labels.job }} are down",
        "100 * (count by (job) (up == 0) / count by (job) (up)) > 10",
    );
    for resource in ["cpu", "memory"] {
        file.alert(
            &format!("Overcommit_{resource}"),
            "10m",
            "the cluster has overcommitted its resources",
            &format!("sum(namespace:kube_pod_requests_{resource}:sum) > 1e15"),
        );
    }
    file.alert(
        "PodRestarting",
        "15m",
        "{{ $labels.pod }} restarts",
        "increase(kube_pod_container_status_restarts_total{job=\"kube-state-metrics\"}[10m]) > 3",
    );
    file.alert("Watchdog", "0s", "always", "vector(1)");
}
