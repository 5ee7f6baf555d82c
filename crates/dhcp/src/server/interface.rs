//! The machine's interfaces and their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;

use super::ServeError;

/// Every interface of this network namespace with its IPv4 addresses.
pub(crate) fn interfaces() -> Result<BTreeMap<String, Vec<Ipv4Addr>>, ServeError> {
    let list = getifaddrs().map_err(|errno| ServeError::Interfaces(io::Error::from(errno)))?;
    let mut found: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
    for entry in list {
        let addresses = found.entry(entry.interface_name).or_default();
        if let Some(address) = entry
            .address
            .and_then(|a| a.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
        {
            addresses.push(address);
        }
    }
    Ok(found)
}

/// The configured names, if all of them exist.
pub(crate) fn check(configured: &[String]) -> Result<(), ServeError> {
    let existing = interfaces()?;
    let names = || existing.keys().cloned().collect();
    if configured.is_empty() {
        return Err(ServeError::NoInterfaces { existing: names() });
    }
    match configured.iter().find(|name| !existing.contains_key(*name)) {
        Some(missing) => Err(ServeError::NoInterface {
            interface: missing.clone(),
            existing: names(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named_with_those_that_exist() {
        assert!(check(&["lo".to_owned()]).is_ok());
        let error = check(&["lo".to_owned(), "eno99".to_owned()]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("eno99") && text.contains("lo"), "{text}");
        assert!(matches!(check(&[]), Err(ServeError::NoInterfaces { .. })));
    }
}
