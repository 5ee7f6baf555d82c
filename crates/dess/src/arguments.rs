//! The command line.

mod access;
mod case;
mod db;
mod disk;
mod image;
mod space;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dess_model::{AddressRange, BootPolicy, DhcpMode, MacAddr, Registration};
use dess_node::supervisor::protocol::ServiceName;
use dess_target::Geometry;
use ipnet::Ipv4Net;

pub(crate) use access::{AuditArguments, AuditCommand, TokenCommand, UserCommand};
pub(crate) use case::CaseCommand;
pub(crate) use db::DbCommand;
pub(crate) use disk::{DiskCommand, SnapshotCommand};
pub(crate) use image::{ImageCommand, RolloutArguments};
pub(crate) use space::{GarbageArguments, PoolArguments};

use crate::data_disks::DataDiskArguments;
use crate::limits::LimitArguments;

/// Shown below the help.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 something is abnormal, 4 no such thing, 5 refused, \
    6 wrong value, 7 service, database or server not to be used, 8 not allowed.";

/// Boots a room full of PCs that have no disks.
#[derive(Parser)]
#[command(name = "dess", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct GlobalArguments {
    /// Configuration file [default: /etc/dess/dess.toml if it exists]
    #[arg(long, global = true, env = "DESS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// State directory [default: /var/lib/dess]
    #[arg(long, global = true, env = "DESS_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Runtime directory [default: /run/dess]
    #[arg(long, global = true, env = "DESS_RUNTIME", value_name = "DIR")]
    pub(crate) runtime: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Another server, e.g. http://10.0.0.1:8080, whose REST API is used [default: this server itself]
    #[arg(long, global = true, env = "DESS_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with a token of that server [default: the token in DESS_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Set up a new site on this server.
    Init(InitArguments),
    /// Run all services in the foreground.
    Up,
    /// Services, site and clients at a glance. Exit code 3 if something is abnormal.
    Status,
    /// Look at everything and name what is wrong, with the command that mends it. Works with all services dead. Exit code 0 if
    /// nothing is wrong, 3 if something is, 1 if it could not look.
    Doctor(DoctorArguments),
    /// Cases: faults that the server found.
    #[command(subcommand)]
    Case(CaseCommand),
    /// Clients: the PCs of the room.
    #[command(subcommand)]
    Client(ClientCommand),
    /// Groups of clients.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Golden images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// What clients have written.
    #[command(subcommand)]
    Disk(DiskCommand),
    /// The space for clients' writes: how full it is, when it will be full, and who uses it.
    Space,
    /// Remove what nothing refers to any more: disks of no client, files of no version.
    Gc(GarbageArguments),
    /// Services of this server.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// The site's settings.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Jobs of the management daemon.
    #[command(subcommand)]
    Job(JobCommand),
    /// The database: check, backup, export, import.
    #[command(subcommand)]
    Db(DbCommand),
    /// Users of the admin page.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens of the REST API.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print shell completions.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write manual pages.
    Man {
        /// Directory to write them to; made if there is none.
        directory: PathBuf,
    },
    /// Print the OpenAPI document of the REST API.
    Openapi,
    /// Run the DHCP service.
    Dhcp,
    /// Run the boot service (TFTP and HTTP).
    Boot,
    /// Run the iSCSI service, or serve one file.
    Iscsi {
        #[command(subcommand)]
        command: Option<IscsiCommand>,
    },
    /// Run the management daemon.
    Node,
    /// Run the admin page.
    Web {
        #[command(subcommand)]
        command: Option<WebCommand>,
    },
}

impl Command {
    /// True for commands that run until they are stopped.
    pub(crate) fn is_service(&self) -> bool {
        matches!(
            self,
            Self::Up
                | Self::Dhcp
                | Self::Boot
                | Self::Iscsi { .. }
                | Self::Node
                | Self::Web { command: None }
        )
    }
}

#[derive(Args)]
pub(crate) struct DoctorArguments {
    /// Mend what can be mended without loss and without disturbing a running client.
    #[arg(long)]
    pub(crate) fix: bool,
    /// Language: ko or en [default: by LC_ALL, LC_MESSAGES, LANG].
    #[arg(long)]
    pub(crate) lang: Option<String>,
}

#[derive(Args)]
pub(crate) struct InitArguments {
    /// Name of the site.
    #[arg(long, default_value = "DESS")]
    pub(crate) name: String,
    /// This server's address as the clients reach it.
    #[arg(long)]
    pub(crate) address: Ipv4Addr,
    /// Network interface that the clients are on; may be given several times.
    #[arg(long = "interface", required = true)]
    pub(crate) interfaces: Vec<String>,
    /// The clients' network, e.g. 192.168.0.0/24.
    #[arg(long)]
    pub(crate) subnet: Ipv4Net,
    /// `server`: DESS gives the addresses. `proxy`: another DHCP server does.
    #[arg(long, value_parser = parse_mode, default_value = "server")]
    pub(crate) mode: DhcpMode,
    /// Addresses for clients, e.g. 192.168.0.100-192.168.0.199.
    #[arg(long, value_parser = parse_range)]
    pub(crate) pool: Option<AddressRange>,
    /// Default gateway of the operating systems.
    #[arg(long)]
    pub(crate) router: Option<Ipv4Addr>,
    /// Name server; may be given several times.
    #[arg(long)]
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Lease time in seconds.
    #[arg(long, default_value_t = 3600)]
    pub(crate) lease_secs: u32,
    /// Port of the HTTP boot service.
    #[arg(long, default_value_t = 80)]
    pub(crate) http_port: u16,
    /// iSCSI portal [default: port 3260 of the address]; may be given several times.
    #[arg(long)]
    pub(crate) portal: Vec<SocketAddrV4>,
    /// `auto`: unknown PCs get the next seat. `hold`: they wait for approval.
    #[arg(long, value_parser = parse_registration, default_value = "auto")]
    pub(crate) registration: Registration,
}

#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// All clients.
    List,
    /// Everything about one client.
    Show {
        /// Seat number, name, MAC address or id.
        client: String,
        /// Also its iSCSI secret, to be typed into firmware that boots by itself. Audited.
        #[arg(long)]
        secret: bool,
    },
    /// Register a client.
    Add(ClientAddArguments),
    /// Change a client.
    Set(Box<ClientSetArguments>),
    /// Let a pending client boot.
    Approve {
        /// Seat number, name, MAC address or id.
        client: String,
    },
    /// Remove a client with its disk.
    Remove {
        /// Seat number, name, MAC address or id.
        client: String,
        /// Even if it runs.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Switch clients on by Wake-on-LAN.
    Wake {
        /// Seat numbers, names, MAC addresses or ids.
        #[arg(required_unless_present = "group")]
        clients: Vec<String>,
        /// All clients of this group.
        #[arg(long, conflicts_with = "clients")]
        group: Option<String>,
        /// Seconds from one to the next, so that they do not all draw power and boot at once.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        stagger: u64,
    },
    /// Drop everything that a client has written.
    Reset {
        /// Seat number, name, MAC address or id.
        client: String,
        /// Even if it runs: its sessions are ended first.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Write all clients as a sheet (CSV).
    Export {
        /// The file [default: print it].
        file: Option<PathBuf>,
    },
    /// Register and change clients as a sheet (CSV) says: all of it, or nothing if anything is
    /// wrong. Columns: mac, seat, name, address, policy, image, boot_file.
    Import {
        /// The file.
        file: PathBuf,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take over the hosts and subnets of an ISC dhcpd.conf, and tell what was not taken.
    ImportDhcpd {
        /// The file.
        file: PathBuf,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// A client's last boots, step by step.
    Boots {
        /// Seat number, name, MAC address or id.
        client: String,
        /// How many.
        #[arg(long, default_value_t = 3)]
        limit: u32,
    },
}

#[derive(Args)]
pub(crate) struct ClientAddArguments {
    /// MAC address of the network card that it boots from.
    pub(crate) mac: MacAddr,
    /// Seat number [default: the next free].
    #[arg(long)]
    pub(crate) seat: Option<u32>,
    /// Name [default: PC- and the seat number].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Reserved address.
    #[arg(long)]
    pub(crate) address: Option<Ipv4Addr>,
    /// What happens to its writes [default: as its group].
    #[arg(long, value_parser = parse_policy)]
    pub(crate) policy: Option<BootPolicy>,
    /// Image, as name or name@version [default: as its group].
    #[arg(long)]
    pub(crate) image: Option<String>,
}

#[derive(Args)]
pub(crate) struct ClientSetArguments {
    /// Seat number, name, MAC address or id.
    pub(crate) client: String,
    /// New seat number.
    #[arg(long)]
    pub(crate) seat: Option<u32>,
    /// New name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// New network card; identity and disk stay.
    #[arg(long)]
    pub(crate) mac: Option<MacAddr>,
    /// Reserved address, or `none`.
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Image as name or name@version, or `inherit`.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// `volatile`, `persistent` or `inherit`.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Boot file instead of the one for its architecture, or `none`.
    #[arg(long)]
    pub(crate) boot_file: Option<String>,
    /// Its data disks, from its next power-on on.
    #[command(flatten)]
    pub(crate) data_disks: DataDiskArguments,
    /// How much of the storage it may use, felt at once.
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Subcommand)]
pub(crate) enum GroupCommand {
    /// All groups.
    List,
    /// Give a group's clients data disks from their next power-on on, or limit how much of the storage they may use together, felt
    /// at once.
    Set {
        /// Its name.
        group: String,
        /// The data disks.
        #[command(flatten)]
        data_disks: DataDiskArguments,
        /// The limits.
        #[command(flatten)]
        limits: Box<LimitArguments>,
    },
}

#[derive(Subcommand)]
pub(crate) enum ServiceCommand {
    /// How each service is. Exit code 3 if one does not work.
    Status,
    /// Ask a service now what its clients would ask of it. Exit code 3 if it does not work.
    Probe {
        /// dhcp, boot, iscsi, node or web [default: all].
        service: Option<ServiceName>,
    },
    /// Restart a service.
    Restart {
        /// dhcp, boot, iscsi, node or web.
        service: ServiceName,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum SiteCommand {
    /// Show the site's settings.
    Show,
    /// Change them.
    Set {
        /// `auto`: unknown PCs get the next seat. `hold`: they wait for approval.
        #[arg(long, value_parser = parse_registration)]
        registration: Option<Registration>,
        /// What happens to the writes of clients without a policy of their own.
        #[arg(long, value_parser = parse_policy)]
        policy: Option<BootPolicy>,
        /// Marks of the space for clients' writes.
        #[command(flatten)]
        pool: PoolArguments,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum JobCommand {
    /// The last jobs.
    List,
    /// Cancel a job.
    Cancel {
        /// Its id.
        job: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum IscsiCommand {
    /// Serve one raw file as LUN 0, without a site: for tests, benchmarks and rescue.
    Serve(IscsiServeArguments),
}

#[derive(Args)]
pub(crate) struct IscsiServeArguments {
    /// Address and port to listen on; may be given several times.
    #[arg(long, required = true)]
    pub(crate) listen: Vec<SocketAddr>,
    /// The file. Without --overlay it is written itself.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: PathBuf,
    /// Directory for an overlay that takes the writes, so that the file stays as it is. Made if there is none, else used again.
    #[arg(long, value_name = "DIR")]
    pub(crate) overlay: Option<PathBuf>,
    /// Offer UNMAP, which gives space back.
    #[arg(long)]
    pub(crate) thin: bool,
    /// Refuse writes.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Size of the physical blocks that the disk states: 512, or 4096 (512e) as the disks of a site.
    #[arg(long, value_name = "BYTES", value_parser = parse_geometry, default_value = "512")]
    pub(crate) physical_block: Geometry,
    /// Ask initiators for CHAP. The file has a line `NAME SECRET` that they must know, and may have a second one by which
    /// the target proves itself to those that ask (mutual CHAP).
    #[arg(long, value_name = "FILE")]
    pub(crate) chap: Option<PathBuf>,
    /// Name of the target.
    #[arg(long, value_name = "NAME", default_value = "iqn.2026-11.io.dess:file")]
    pub(crate) iqn: String,
}

#[derive(Subcommand)]
pub(crate) enum WebCommand {
    /// Print the one-time code that the first visit of the page asks for.
    SetupCode,
    /// For a forgotten password: print a one-time code with which the page takes a new one.
    ResetPassword,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Server,
    Proxy,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    Volatile,
    Persistent,
}

#[derive(Clone, Copy, ValueEnum)]
enum Unknown {
    Auto,
    Hold,
}

fn parse_mode(text: &str) -> Result<DhcpMode, String> {
    Ok(match Mode::from_str(text, true)? {
        Mode::Server => DhcpMode::Server,
        Mode::Proxy => DhcpMode::Proxy,
    })
}

/// `volatile` or `persistent`.
pub(crate) fn parse_policy(text: &str) -> Result<BootPolicy, String> {
    match Policy::from_str(text, true) {
        Ok(Policy::Volatile) => Ok(BootPolicy::Volatile),
        Ok(Policy::Persistent) => Ok(BootPolicy::Persistent),
        Err(_) => Err(format!(
            "\"{text}\" is no policy; it is volatile or persistent"
        )),
    }
}

fn parse_registration(text: &str) -> Result<Registration, String> {
    match Unknown::from_str(text, true) {
        Ok(Unknown::Auto) => Ok(Registration::Auto),
        Ok(Unknown::Hold) => Ok(Registration::Hold),
        Err(_) => Err(format!(
            "\"{text}\" is no registration policy; it is auto or hold"
        )),
    }
}

fn parse_geometry(text: &str) -> Result<Geometry, String> {
    match text {
        "512" => Ok(Geometry::Native),
        "4096" => Ok(Geometry::Emulated),
        _ => Err(format!(
            "\"{text}\" is no size of a physical block; it is 512 or 4096"
        )),
    }
}

fn parse_range(text: &str) -> Result<AddressRange, String> {
    let wrong = || format!("\"{text}\" is no range; write it as 192.168.0.100-192.168.0.199");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first = first.trim().parse().map_err(|_| wrong())?;
    let last = last.trim().parse().map_err(|_| wrong())?;
    if last < first {
        return Err(wrong());
    }
    Ok(AddressRange { first, last })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_range_that_runs_backwards_is_refused() {
        assert!(parse_range("10.0.0.9-10.0.0.1").is_err());
        assert!(parse_range("10.0.0.1").is_err());
        assert!(parse_range("10.0.0.1-10.0.0.9").is_ok());
    }
}
