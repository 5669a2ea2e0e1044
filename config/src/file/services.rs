//! `[application]`, `[store]`, `[broker]` and `[detection]` as written.

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Broker, Credentials, Detection, DetectionProfile, Durability, RedisServer, Store, StoreKind,
};

use super::names::entity_id;
use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table};
use crate::values::{boolean, choice, duration, located, secret, text};

const STORE: &[(&str, bool)] = &[("embedded", false), ("redis", true)];
const DURABILITY: &[(&str, Durability)] = &[
    ("required", Durability::Required),
    ("process", Durability::Process),
];
const BROKER: &[(&str, BrokerWord)] = &[
    ("embedded", BrokerWord::Embedded),
    ("mosquitto", BrokerWord::Mosquitto),
    ("external", BrokerWord::External),
];
const PROFILE: &[(&str, DetectionProfile)] = &[
    ("fast", DetectionProfile::Fast),
    ("paper", DetectionProfile::Paper),
    ("wifi", DetectionProfile::Wifi),
];

/// The most that clocks are allowed to differ: further apart, no validity of a command would hold.
const SKEW_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum BrokerWord {
    Embedded,
    Mosquitto,
    External,
}

pub(super) fn default_store() -> Store {
    Store {
        kind: StoreKind::Embedded,
        durability: Durability::default(),
        lease: Store::LEASE,
    }
}

pub(super) fn application(item: &Item<'_>, faults: &mut Faults) -> Option<EntityId> {
    let mut table = Table::of(item, faults)?;
    let name = table.required("name", |item, faults| {
        let name = located(text)(item, faults)?;
        entity_id(&name, faults)
    });
    table.finish();
    name
}

pub(super) fn store(item: &Item<'_>, faults: &mut Faults) -> Option<Store> {
    let mut table = Table::of(item, faults)?;
    let is_redis = table.required("kind", choice(STORE)).unwrap_or(false);
    let durability = table.optional("durability", choice(DURABILITY));
    let lease = Duration::from_millis(100)..=Duration::from_secs(3_600);
    let lease = table.optional("lease", duration(lease));
    let url = table.optional("url", |item, faults| {
        address(item, faults, &["redis", "rediss"])
    });
    let managed = table.optional("managed", boolean).unwrap_or(false);
    let credentials = credentials(&mut table);
    let keys = ["url", "managed", "user", "password"];
    if !is_redis {
        unused(&mut table, &keys, "`kind = \"embedded\"`");
    } else if managed {
        unused(&mut table, &["url", "user", "password"], "`managed = true`");
    } else if table.place_of("url").is_none() {
        let reason = "the Redis server has no address".to_owned();
        table.fault(
            Fault::new(Code::F04, table.place(), reason).cure(
                "write `url = \"redis://host:6379\"`, or `managed = true` to have one started",
            ),
        );
    }
    table.finish();
    let kind = match (is_redis, managed) {
        (false, _) => StoreKind::Embedded,
        (true, true) => StoreKind::Redis(RedisServer::Managed),
        (true, false) => StoreKind::Redis(RedisServer::External {
            url: url.unwrap_or_default(),
            credentials,
        }),
    };
    Some(Store {
        kind,
        durability: durability.unwrap_or_default(),
        lease: lease.unwrap_or(Store::LEASE),
    })
}

pub(super) fn broker(item: &Item<'_>, faults: &mut Faults) -> Option<Broker> {
    let mut table = Table::of(item, faults)?;
    let word = table
        .required("kind", choice(BROKER))
        .unwrap_or(BrokerWord::Embedded);
    let url = table.optional("url", |item, faults| {
        address(item, faults, &["mqtt", "mqtts"])
    });
    let credentials = credentials(&mut table);
    let keys = ["url", "user", "password"];
    let broker = match word {
        BrokerWord::Embedded => {
            unused(&mut table, &keys, "`kind = \"embedded\"`");
            Broker::Embedded
        }
        BrokerWord::Mosquitto => {
            unused(&mut table, &keys, "`kind = \"mosquitto\"`");
            Broker::Mosquitto
        }
        BrokerWord::External => {
            if table.place_of("url").is_none() {
                table.missing("url");
            }
            Broker::External {
                url: url.unwrap_or_default(),
                credentials,
            }
        }
    };
    table.finish();
    Some(broker)
}

pub(super) fn detection(item: &Item<'_>, faults: &mut Faults) -> Option<Detection> {
    let mut table = Table::of(item, faults)?;
    let default = Detection::default();
    let range = Duration::from_millis(1)..=Duration::from_secs(3_600);
    let detection = Detection {
        profile: table
            .optional("profile", choice(PROFILE))
            .unwrap_or(default.profile),
        autonomy_after: table
            .optional("autonomy_after", duration(range))
            .unwrap_or(default.autonomy_after),
        skew_max: table
            .optional("clock_skew", duration(Duration::ZERO..=SKEW_MAX))
            .unwrap_or(default.skew_max),
    };
    table.finish();
    Some(detection)
}

fn credentials(table: &mut Table<'_, '_>) -> Credentials {
    Credentials {
        user: table.optional("user", text),
        password: table.optional("password", secret),
    }
}

/// Keys that say something and are not heard are faults, not ignored.
fn unused(table: &mut Table<'_, '_>, keys: &[&'static str], because: &str) {
    for key in keys {
        if let Some(place) = table.place_of(key) {
            let reason = format!("`{key}` has no meaning beside {because}");
            let fault = Fault::new(Code::F05, place, reason);
            table.fault(fault.cure(format!("remove `{key}`, or choose another `kind`")));
        }
    }
}

/// An address `scheme://host[:port][/…]` without credentials in it.
pub(super) fn address(item: &Item<'_>, faults: &mut Faults, schemes: &[&str]) -> Option<String> {
    let url = text(item, faults)?;
    let rest = schemes
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme)?.strip_prefix("://"));
    let Some(rest) = rest else {
        let cure = format!("write {}://host:port", schemes.join(":// or "));
        faults.add(item.not_allowed("is not an address of the right kind", cure));
        return None;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        let reason = format!("`{}` holds credentials in clear", item.path);
        faults.add(
            Fault::new(Code::F07, item.place.clone(), reason)
                .cure("write `user` and `password = { env = \"NAME\" }` beside it"),
        );
        return None;
    }
    if !has_host_and_port(authority) {
        let cure = format!("write {}://host:port", schemes[0]);
        faults.add(item.not_allowed("has no host, or a port outside 1 to 65535", cure));
        return None;
    }
    Some(url)
}

fn has_host_and_port(authority: &str) -> bool {
    // The port of an IPv6 address stands behind its closing bracket.
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[after_host..].rfind(':') {
        Some(colon) => {
            let at = after_host + colon;
            (&authority[..at], Some(&authority[at + 1..]))
        }
        None => (authority, None),
    };
    let host_fits = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && host.chars().all(host_fits) && port_fits
}
