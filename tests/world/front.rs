//! Relay and gateway in front of two parties, each a process of its own, and somebody who listens in between them.

use std::fs;
use std::net::Ipv4Addr;

use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_envelope::KeyConfigList;

use crate::parties::alive;
use crate::{Courier, Parties, Process, Wire, Wiretap, free_port};

/// A relay and a gateway that run. Everything behind the relay is spoken in HTTP/1.1, so that it can be read.
pub struct Front {
    /// Between relay and gateway.
    pub before_gateway: Wiretap,
    /// Between gateway and leader.
    pub before_leader: Wiretap,
    relay: String,
    keys: KeyConfigList,
    _processes: [Process; 2],
}

impl Front {
    /// Starts both in front of `parties`, in the same folder.
    pub async fn start(parties: &Parties) -> Self {
        let (relay_port, gateway_port) = (free_port(), free_port());
        let before_leader = Wiretap::start(parties.leader_port()).await;
        let before_gateway = Wiretap::start(gateway_port).await;
        let folder = parties.folder();
        let task = &parties.task;
        let (leader, helper) = (task.configuration.leader_url(), task.configuration.helper_url());
        let target = format!("http://127.0.0.1:{}/", before_leader.port);
        let routes = [
            route("POST", leader, Resource::Reports(task.id), Some(Media::UploadReq), &target),
            route("GET", leader, Resource::HpkeConfig, None, &target),
            route("GET", helper, Resource::HpkeConfig, None, helper),
        ];
        let gateway = format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:{gateway_port}\"\ndatabase = \"sqlite:gateway.db\"\n{}",
            routes.concat()
        );
        let relay = format!(
            "role = \"relay\"\nlisten = \"127.0.0.1:{relay_port}\"\n\
             gateway_url = \"http://127.0.0.1:{}/\"\ngateway_protocol = \"h1\"\n",
            before_gateway.port
        );
        let processes = [("gateway", gateway), ("relay", relay)].map(|(role, config)| {
            fs::write(folder.join(format!("{role}.toml")), config).expect("the folder can be written");
            Process::start(role, folder, [role, "--log", "trace", "--config", &format!("{role}.toml")])
        });
        let (gateway, relay) =
            (format!("http://127.0.0.1:{gateway_port}/"), format!("http://127.0.0.1:{relay_port}/"));
        alive(&gateway).await;
        alive(&relay).await;
        let keys = Wire::default().get(&format!("{gateway}ohttp-keys")).await.body;
        let keys = KeyConfigList::parse(keys).expect("the keys of the gateway");
        Self { before_gateway, before_leader, relay, keys, _processes: processes }
    }

    /// A client at an address of its own.
    #[must_use]
    pub fn courier(&self, source: Ipv4Addr) -> Courier {
        Courier::new(&self.relay, &self.keys, source)
    }
}

fn route(method: &str, endpoint: &str, resource: Resource, media: Option<Media>, target: &str) -> String {
    let authority = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let path = resource.absolute_path(endpoint);
    let media = media.map_or_else(String::new, |media| format!("content_type = \"{}\"\n", media.header()));
    format!(
        "[[routes]]\nmethod = \"{method}\"\nauthority = \"{authority}\"\npath = \"{path}\"\n{media}\
         target = \"{target}\"\nprotocol = \"h1\"\n"
    )
}
