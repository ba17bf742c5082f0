//! A whole node, from its settings to its end.

use crate::backup::BackupConfig;
use crate::blob::{Stores, Uploads};
use crate::clock::SystemClock;
use crate::config::{LogFormat, Settings};
use crate::disk::{Directory, FileSystem, Lanes, SystemFiles};
use crate::driver::Driver;
use crate::exit::Failure;
use crate::leaf::{Clock as _, Inbox};
use crate::memory;
use crate::metrics::MetricsPort;
use crate::net::{NetSettings, Port, close};
use crate::start;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::create::Settings as Making;
use raftkv_core::backup::prune::Pruning;
use raftkv_core::backup::read::Access;
use raftkv_core::boot::Image;
use raftkv_core::ids::Identity;
use raftkv_core::io::{Halt, Input};
use raftkv_core::node::Node;
use raftkv_core::node::copies::Copies;
use raftkv_core::rng::Seed;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zeroize::Zeroize as _;

/// Inputs that wait for the core. What does not fit waits in the network.
const INBOX_INPUTS_MAX: usize = 16_384;

/// Runs a node until it is told to stop, or cannot go on.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    run_on(settings, Arc::new(SystemFiles)).await
}

/// As [`run`], with the data directory on this file system.
pub async fn run_on(settings: Settings, file_system: Arc<dyn FileSystem>) -> Result<(), Failure> {
    let backups = settings.backup_config.as_deref().map(with_backups).transpose()?;
    let directory = Directory::open_on(&settings.data_dir, file_system)?;
    let port = Port::bind(NetSettings {
        listen: settings.listen,
        certs: settings.cert_dir.clone(),
        max_connections: settings.max_connections,
    })?;
    let metrics = match settings.metrics_listen {
        Some(address) => Some(MetricsPort::bind(address).await?),
        None => None,
    };
    let endpoint = port.endpoint().clone();
    let image = start::prepare(&settings, &directory, &endpoint).await?;
    let identity = image.identity;
    let backups = match backups {
        None if is_trial(&settings, &image) => {
            let trial = Backups::new(&BackupConfig::embedded(&settings.data_dir))?;
            Some(Backups { trial: Some(found(&settings.data_dir)), ..trial })
        }
        backups => backups,
    };

    let (inbox, inputs) = mpsc::channel(INBOX_INPUTS_MAX);
    stop_on_signal(inbox.clone())?;
    survive_file_size_limit()?;
    let disk = Lanes::start(&directory, &inbox)?;
    let net = port.serve(identity, &inbox);
    let metrics = metrics.map(|metrics| tokio::spawn(metrics.serve(net.clients())));
    let clock = SystemClock::new();
    let mut node = Node::new(settings.core.clone(), *image, seed()?, clock.now());
    memory::release_freed();
    let stores = backups.map(|Backups { settings, access, trial, pruning, copies, stores }| {
        match trial {
            Some(made) => node.try_backups(settings, access, made),
            None => node.make_backups(settings, access),
        }
        pruning.into_iter().for_each(|pruning| node.prune_backups(pruning));
        copies.into_iter().for_each(|copies| node.copy_backups(copies));
        stores
    });
    let blob = Uploads::new(stores, &inbox);
    drop(inbox);
    greet(&settings, &identity, node.can_make_backups())?;

    let driver = Driver::new(node, inputs, net, disk, blob, clock);
    // The driver panics only when an invariant of the core is broken; then nothing may go on.
    let halt = tokio::spawn(driver.run()).await.map_err(std::io::Error::other)?;
    metrics.iter().for_each(JoinHandle::abort);
    close::all(&endpoint).await;
    match halt {
        Halt::Stopped => Ok(()),
        halt => Err(Failure::Halted(halt)),
    }
}

/// How this node makes backups, with what it reads them, what older ones go by, and where they are.
struct Backups {
    settings: Making,
    access: Access,
    /// Only to try things out, beside these.
    trial: Option<Vec<BackupId>>,
    pruning: Option<Pruning>,
    copies: Option<Copies>,
    stores: Stores,
}

fn with_backups(path: &Path) -> Result<Backups, Failure> {
    let loaded = BackupConfig::load(path).map_err(|error| Failure::Backup(error.to_string()))?;
    for warning in &loaded.keys.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Backups::new(&loaded)
}

/// Whether this node is its cluster's only member, without certificates, and was not told where backups go. What its log says may be newer:
/// so the core decides again at each backup.
fn is_trial(settings: &Settings, image: &Image) -> bool {
    let is_alone = image.peers.is_empty() && image.state.members().count() == 1;
    settings.backup_config.is_none() && settings.cert_dir.is_none() && is_alone
}

/// The backups in this directory, by their names. One that cannot be read has none.
fn found(data_dir: &Path) -> Vec<BackupId> {
    let names = std::fs::read_dir(data_dir.join("backups")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

impl Backups {
    fn new(loaded: &BackupConfig) -> Result<Backups, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Backup(error.to_string());
        Ok(Backups {
            settings: loaded.settings(env!("CARGO_PKG_VERSION")).map_err(|error| failed(&error))?,
            access: loaded.access(false),
            trial: None,
            pruning: loaded.pruning(),
            copies: loaded.copies(),
            stores: Stores::open(&loaded.config).map_err(|error| failed(&error))?,
        })
    }
}

/// Log lines go to standard error.
pub fn log_to_stderr(settings: &Settings) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log_level)
        .map_err(|error| error.to_string())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // They would go to stderr, too, and a node that cannot write there would panic.
        .log_internal_errors(false);
    match settings.log_format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}

/// No memory image is left behind by a crash: it would hold keys and values.
pub fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!("core dumps cannot be forbidden: {error}");
    }
}

/// The first signal asks the core to stop, the second ends the process.
fn stop_on_signal(inbox: Inbox) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                tracing::warn!("told to stop a second time: stopping at once");
                std::process::exit(1);
            }
            asked = true;
            tracing::info!("told to stop: handing over and flushing");
            let inbox = inbox.clone();
            // Not awaited here: a second signal must be heard even when the inbox is full.
            tokio::spawn(async move { inbox.send(Input::Shutdown).await });
        }
    });
    Ok(())
}

/// Where files may not grow (`ulimit -f`, `LimitFSIZE`), a write fails as on a full disk, instead of killing the process without a word.
fn survive_file_size_limit() -> std::io::Result<()> {
    let exceeded = rustix::process::Signal::XFSZ.as_raw();
    // That somebody listens is all: from then on the write itself gives the error.
    signal(SignalKind::from_raw(exceeded)).map(drop)
}

fn seed() -> Result<Seed, std::io::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let seed = Seed::from_bytes(bytes);
    bytes.zeroize();
    Ok(seed)
}

/// What is served, and what to type next.
fn greet(settings: &Settings, identity: &Identity, can_try: bool) -> std::io::Result<()> {
    let Identity { cluster, node, .. } = identity;
    let address = &settings.advertise;
    let (safety, certs) = match &settings.cert_dir {
        Some(dir) => ("mutual TLS".to_owned(), format!(" --cert-dir {}", dir.display())),
        None => ("no certificates, so loopback only".to_owned(), String::new()),
    };
    let endpoints = match address.as_str() {
        "127.0.0.1:7400" => String::new(),
        address => format!(" --endpoints {address}"),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "raftkv-node {}: node {node} of cluster {cluster}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  serves clients and peers at {} ({safety})", settings.listen)?;
    writeln!(out, "  keeps its data in {}", settings.data_dir.display())?;
    if let Some(metrics) = settings.metrics_listen {
        writeln!(out, "  shows metrics at http://{metrics}/metrics")?;
    }
    match &settings.backup_config {
        Some(file) => writeln!(out, "  makes backups as {} says", file.display())?,
        None if can_try => {
            let place = settings.data_dir.join("backups");
            let what = "when asked, as long as it is alone: raftkv-cli backup create --in-cluster";
            writeln!(out, "  makes backups in {} {what}", place.display())?;
        }
        None => {}
    }
    writeln!(out, "next: raftkv-cli{endpoints}{certs} put hello world")?;
    out.flush()
}
