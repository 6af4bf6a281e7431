//! A gateway that has lost its database says so to whoever sends it work.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_gateway::Config;
use mica_service::{
    clock::Clock,
    http::{HttpClient, HttpOptions},
    testing::{TestDatabase, databases},
};
use sqlx::Connection as _;

use crate::world::{routes, start_gateway};

/// What `/ready` says once it says anything else than `before`.
async fn readiness_after(http: &HttpClient, gateway: SocketAddr, before: StatusCode) -> (StatusCode, Bytes) {
    loop {
        let request = Request::get(format!("http://{gateway}/ready")).body(Bytes::new()).unwrap();
        let answer = http.send(request).await.unwrap();
        if answer.status() != before {
            return (answer.status(), answer.into_body());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(database: &TestDatabase) -> SocketAddr {
    let target = "127.0.0.1:1".parse().unwrap();
    let config = Config::new("127.0.0.1:0", database.url.clone(), routes(target));
    start_gateway(config, Clock::manual(1_700_000_000)).await.0
}

async fn change(url: &str, statement: String) {
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_gateway_whose_database_was_changed_under_it_is_not_ready_until_it_is_put_right() {
    for database in databases().await {
        let (gateway, http) = (start(&database).await, HttpClient::new(HttpOptions::default()));
        let (status, _) = readiness_after(&http, gateway, StatusCode::NOT_FOUND).await;
        assert_eq!(status, StatusCode::OK, "{}", database.kind);
        change(&database.url, "UPDATE _sqlx_migrations SET version = version + 100".to_owned()).await;
        let (status, said) = readiness_after(&http, gateway, StatusCode::OK).await;
        let reason = "not ready: the database has not the schema of this version\n";
        assert_eq!((status, said), (StatusCode::SERVICE_UNAVAILABLE, reason.into()), "{}", database.kind);
        change(&database.url, "UPDATE _sqlx_migrations SET version = version - 100".to_owned()).await;
        let (status, _) = readiness_after(&http, gateway, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(status, StatusCode::OK, "{}", database.kind);
    }
}

/// A file stays open when it is taken away; a server can be gone.
#[tokio::test]
async fn a_gateway_whose_database_server_is_gone_is_not_ready() {
    for database in databases().await.into_iter().filter(|database| database.kind == "postgres") {
        let (gateway, http) = (start(&database).await, HttpClient::new(HttpOptions::default()));
        let (server, name) = database.url.rsplit_once('/').unwrap();
        let name = name.split('?').next().unwrap();
        change(&format!("{server}/postgres"), format!("DROP DATABASE {name} WITH (FORCE)")).await;
        let (status, said) = readiness_after(&http, gateway, StatusCode::OK).await;
        let reason = "not ready: the database does not answer\n";
        assert_eq!((status, said), (StatusCode::SERVICE_UNAVAILABLE, reason.into()));
    }
}
