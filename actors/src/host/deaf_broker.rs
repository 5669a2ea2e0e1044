//! For tests: a broker that takes what is published and never acknowledges it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{Mqtt, MqttOptions, Reception};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A client that is connected to it.
pub(super) async fn connected() -> Mqtt {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = BrokerAddress::anonymous(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut heard = [0; 1024];
        let _connect = client.read(&mut heard).await.unwrap();
        client.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
        while client.read(&mut heard).await.is_ok_and(|count| count > 0) {}
    });
    let options = MqttOptions::new(address, "quiet");
    let mqtt = Mqtt::start(options, Vec::new(), Arc::new(|_| Reception::Done)).unwrap();
    mqtt.connected(Duration::from_secs(5)).await.unwrap();
    mqtt
}
