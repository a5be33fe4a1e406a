//! Who holds a port: read out of /proc, to tell the operator instead of "address in use".

use std::fs;
use std::net::SocketAddr;

/// The process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Process id.
    pub(crate) pid: u32,
    /// Name of its program.
    pub(crate) name: String,
}

/// Finds who holds the port of `address`.
///
/// * `what`: `udp` or `tcp`.
/// * Returns `None` when nobody does, or when his files may not be read.
pub(crate) fn holder(what: &str, address: SocketAddr) -> Option<Holder> {
    let inodes: Vec<u64> = [what.to_owned(), format!("{what}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| inodes_of(&table, address.port(), what == "tcp"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let mut sockets = links.filter_map(|link| inode_of_link(&link.to_string_lossy()));
        if sockets.any(|inode| inodes.contains(&inode)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Holder { pid, name: name.trim().to_owned() });
        }
    }
    None
}

/// Inodes of the sockets bound to `port` in a table of /proc/net.
///
/// * `listening_only`: for TCP, only sockets that listen (state 0A).
fn inodes_of(table: &str, port: u16, listening_only: bool) -> Vec<u64> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { continue };
        let own = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        if own == Some(port) && (!listening_only || *state == "0A") {
            inodes.extend(inode.parse::<u64>());
        }
    }
    inodes
}

fn inode_of_link(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_port_and_state() {
        let row = |local: &str, state: &str, inode: u32| {
            format!("0: {local} 00000000:0000 {state} 0:0 00:0 0 0 0 {inode} 1 0\n")
        };
        let table = [
            "  sl  local_address rem_address st tx_queue tr retrnsmt uid timeout inode\n".into(),
            row("00000000:1F90", "0A", 4711),
            row("0100007F:1F90", "01", 4712),
            row("00000000:0050", "0A", 4713),
            "short\n".into(),
        ]
        .concat();
        let table = table.as_str();
        assert_eq!(inodes_of(table, 8080, true), [4711]);
        assert_eq!(inodes_of(table, 8080, false), [4711, 4712]);
        assert_eq!(inode_of_link("socket:[4711]"), Some(4711));
        assert_eq!(inode_of_link("pipe:[4711]"), None);
    }

    #[test]
    fn a_port_of_our_own_is_ours() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = holder("udp", socket.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
    }
}
