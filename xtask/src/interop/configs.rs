//! The configurations that our processes are given, as an operator would write them.

/// The same gateway as [`gateway`], insisting on padding.
pub(super) fn strict_gateway(port: u16, kems: &[&str], routes: &[Route]) -> String {
    format!("padding = \"refuse\"\n{}", gateway(port, kems, routes))
}

/// The same relay as [`relay`], with a pool that lets three requests wait for each other.
pub(super) fn mixing_relay(port: u16, gateway: &Gateway) -> String {
    format!("{}\n[mixing]\nrequests = 3\nwait = \"1s\"\n", relay(port, gateway))
}

/// A gateway, and where its requests may go.
pub(super) fn gateway(port: u16, kems: &[&str], routes: &[Route]) -> String {
    let kems = kems.iter().map(|kem| format!("\"{kem}\"")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:gateway.db\"\n\n[keys]\nkems = [{kems}]\n"
    );
    for route in routes {
        text += &route.text();
    }
    text
}

/// One kind of request of a gateway.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) media: Option<&'static str>,
    /// The port of the target.
    pub(super) port: u16,
    /// Whether the target speaks HTTP/1.1 only.
    pub(super) is_old: bool,
}

impl Route {
    fn text(&self) -> String {
        let Self { method, path, port, .. } = self;
        let media = self.media.map(|media| format!("content_type = \"{media}\"\n")).unwrap_or_default();
        let protocol = if self.is_old { "protocol = \"h1\"\n" } else { "" };
        format!(
            "\n[[routes]]\nmethod = \"{method}\"\nauthority = \"127.0.0.1:{port}\"\npath = \"{path}\"\n{media}\
             target = \"http://127.0.0.1:{port}\"\n{protocol}"
        )
    }
}

/// A relay of one gateway.
pub(super) fn relay(port: u16, gateway: &Gateway) -> String {
    let Gateway { port: gateway, path, is_ours } = gateway;
    let (protocol, mirror) = if *is_ours { ("h2", "\n[mirror]\n") } else { ("h1", "") };
    format!(
        "role = \"relay\"\nlisten = \"127.0.0.1:{port}\"\ngateway_url = \"http://127.0.0.1:{gateway}{path}\"\n\
         gateway_protocol = \"{protocol}\"\n{mirror}"
    )
}

/// The gateway of a relay.
pub(super) struct Gateway {
    pub(super) port: u16,
    pub(super) path: &'static str,
    /// Or one that speaks HTTP/1.1 only and publishes its keys elsewhere.
    pub(super) is_ours: bool,
}

/// A leader or a helper.
pub(super) fn aggregator(role: &str, port: u16) -> String {
    format!(
        "role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:{role}.db\"\npolicy = \"policy.toml\"\n\
         policy_allow = [\"W045\"]\ntasks = [\"task/{role}.task.toml\"]\n"
    )
}

/// Everything leaves as it is, so that totals can be compared.
pub(super) const POLICY: &str = r#"schema = "dp-policy/1"

[policy]
id = "interop"
version = 1
justification = "no client here is real"

[unmatched]
action = "release_without_dp"
justification = "no client here is real"
expires = 2099-12-31
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_gateway_follow_its_own_keys() {
        let route = Route { method: "POST", path: "/kept", media: Some("text/plain"), port: 7, is_old: true };
        let text = gateway(1, &["x-wing", "x25519"], &[route]);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["keys"]["kems"].as_array().unwrap().len(), 2);
        let route = &table["routes"][0];
        assert_eq!(route["target"].as_str(), Some("http://127.0.0.1:7"));
        assert_eq!(route["protocol"].as_str(), Some("h1"));
        assert_eq!(route["content_type"].as_str(), Some("text/plain"));
    }

    #[test]
    fn strict_parties_say_so_above_and_below_the_tables_of_the_others() {
        let gateway: toml::Table = strict_gateway(1, &["x25519"], &[]).parse().unwrap();
        assert_eq!(gateway["padding"].as_str(), Some("refuse"));
        let place = Gateway { port: 2, path: "/", is_ours: true };
        let relay: toml::Table = mixing_relay(1, &place).parse().unwrap();
        assert_eq!(relay["mixing"]["requests"].as_integer(), Some(3));
        assert!(relay.contains_key("mirror"));
    }

    #[test]
    fn a_relay_shows_the_keys_of_a_gateway_of_ours_only() {
        let ours: toml::Table = relay(1, &Gateway { port: 2, path: "/", is_ours: true }).parse().unwrap();
        assert!(ours.contains_key("mirror"));
        let other: toml::Table =
            relay(1, &Gateway { port: 2, path: "/gateway", is_ours: false }).parse().unwrap();
        assert!(!other.contains_key("mirror"));
        assert_eq!(other["gateway_url"].as_str(), Some("http://127.0.0.1:2/gateway"));
        assert_eq!(other["gateway_protocol"].as_str(), Some("h1"));
    }
}
