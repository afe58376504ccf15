//! What `docker inspect` says, with the address on the network in the place of the bridge's.
//!
//! Engines up to API 1.51 have it in `NetworkSettings` itself, and all of them in `NetworkSettings.Networks.bridge`.
//! Everything else stays as it was written.

use crate::create::json::{JsonError, Object};
use crate::engine::is_id;
use crate::wish::Cidr;

/// The id of the container that an answer is about.
pub fn id_of(body: &[u8]) -> Option<String> {
    let id: String = Object::parse(body).ok()?.read("Id").ok()?;
    is_id(&id).then_some(id)
}

/// The answer that shows the first of these addresses; nothing when it is to stay as it is.
pub fn rewrite(body: &[u8], addresses: &[Cidr]) -> Option<Vec<u8>> {
    let address = addresses.iter().find(|address| address.address.is_ipv4())?;
    rewritten(body, *address).ok()
}

fn rewritten(body: &[u8], address: Cidr) -> Result<Vec<u8>, JsonError> {
    let mut container = Object::parse(body)?;
    let mut settings = container.object("NetworkSettings")?;
    show(&mut settings, address)?;
    let mut networks = settings.object("Networks")?;
    let shown = networks.names().find(|name| matches!(*name, "bridge" | "none")).map(str::to_owned);
    if let Some(name) = shown {
        let mut network = networks.object(&name)?;
        show(&mut network, address)?;
        networks.set_key(&name, &network)?;
        settings.set("Networks", &networks)?;
    }
    container.set("NetworkSettings", &settings)?;
    Ok(container.into_bytes())
}

/// Sets the fields that are there: an engine that has none at that place has clients that look for none.
fn show(settings: &mut Object<'_>, address: Cidr) -> Result<(), JsonError> {
    if settings.has("IPAddress") {
        settings.set("IPAddress", &address.address)?;
    }
    if settings.has("IPPrefixLen") {
        settings.set("IPPrefixLen", &address.prefix_length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(body: &str) -> String {
        let address = "10.32.0.5/12".parse().unwrap();
        String::from_utf8(rewrite(body.as_bytes(), &[address]).unwrap()).unwrap()
    }

    #[test]
    fn both_layouts_show_the_address() {
        let old = r#"{"A":1.0,"NetworkSettings":{"IPAddress":"","IPPrefixLen":0,"Networks":{"bridge":{"IPAddress":"x","IPPrefixLen":16,"G":""}}}}"#;
        let new = r#"{"NetworkSettings":{"Networks":{"front":{"IPAddress":"y"},"none":{"IPAddress":""}}}}"#;

        assert_eq!(
            shown(old),
            r#"{"A":1.0,"NetworkSettings":{"IPAddress":"10.32.0.5","IPPrefixLen":12,"Networks":{"bridge":{"IPAddress":"10.32.0.5","IPPrefixLen":12,"G":""}}}}"#
        );
        assert_eq!(
            shown(new),
            r#"{"NetworkSettings":{"Networks":{"front":{"IPAddress":"y"},"none":{"IPAddress":"10.32.0.5"}}}}"#
        );
    }

    #[test]
    fn without_an_address_or_in_words_we_do_not_know_it_stays() {
        assert_eq!(rewrite(b"{}", &[]), None);
        assert_eq!(rewrite(br#"{"NetworkSettings":1}"#, &["10.32.0.5/12".parse().unwrap()]), None);
        assert_eq!(id_of(br#"{"Id":"web"}"#), None);
        let id = "a".repeat(64);
        assert_eq!(id_of(format!(r#"{{"Id":"{id}"}}"#).as_bytes()), Some(id));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = id_of(&bytes);
            let _ = rewrite(&bytes, &["10.32.0.5/12".parse().unwrap()]);
        }
    }
}
