use super::*;

const UPLOAD: &str = "application/ppm-dap;message=upload-req";

fn table() -> RouteTable {
    let mut upload = RouteConfig::new(
        "POST",
        "leader.example",
        "/dap/tasks/{task}/reports",
        Some(UPLOAD),
        "https://10.0.0.1:99/in/",
    );
    upload.max_bytes = 10;
    upload.forward_headers = vec!["dap-taskprov".to_owned()];
    let keys = RouteConfig::new("GET", "leader.example", "/dap/hpke_config", None, "https://10.0.0.2");
    RouteTable::build(&[upload, keys], &Peers::default()).unwrap()
}

fn upload() -> InnerRequest {
    InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/dap/tasks/Ab-_9/reports".into(),
        headers: vec![
            ("content-type".into(), UPLOAD.into()),
            ("cookie".into(), b"a=b".to_vec()),
            ("user-agent".into(), b"someone".to_vec()),
            ("dap-taskprov".into(), b"x".to_vec()),
        ],
        body: "0123456789".into(),
    }
}

fn refusal(spoil: impl FnOnce(&mut InnerRequest)) -> Option<Problem> {
    let mut request = upload();
    spoil(&mut request);
    table().resolve(request).err()
}

#[test]
fn a_request_is_built_anew_from_the_table() {
    let request = table().resolve(upload()).ok().unwrap().request;
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://10.0.0.1:99/in/dap/tasks/Ab-_9/reports");
    let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["content-type", "dap-taskprov"]);
    assert_eq!(request.body(), "0123456789");
}

#[test]
fn a_route_without_a_media_type_takes_no_content() {
    let keys = |body: &'static str| InnerRequest {
        method: "GET".into(),
        path: "/dap/hpke_config".into(),
        headers: vec![],
        body: body.into(),
        ..upload()
    };
    assert_eq!(table().resolve(keys("")).ok().unwrap().request.uri(), "https://10.0.0.2/dap/hpke_config");
    assert_eq!(table().resolve(keys("x")).err(), Some(Problem::INNER_MEDIA_TYPE));
}

#[test]
fn what_is_not_in_the_table_is_refused() {
    for authority in ["other.example", "leader.example:8080", "leader.example.", "10.0.0.1", ""] {
        assert_eq!(refusal(|request| request.authority = authority.into()), Some(Problem::NO_ROUTE));
    }
    for path in [
        "/",
        "/dap/tasks/a/reports/",
        "/dap/tasks/a/b/reports",
        "/dap/tasks//reports",
        "/dap/tasks/../reports",
        "/dap/tasks/%2e%2e/reports",
        "/dap/tasks/a%2fb/reports",
        "/dap/tasks/a/reports?x=y",
        "/dap//tasks/a/reports",
        "/DAP/tasks/a/reports",
        "//evil.example/dap/tasks/a/reports",
    ] {
        assert_eq!(refusal(|request| request.path = path.into()), Some(Problem::NO_ROUTE), "{path}");
    }
    assert_eq!(refusal(|request| request.method = "PUT".into()), Some(Problem::INNER_METHOD));
    assert_eq!(refusal(|request| request.headers.clear()), Some(Problem::INNER_MEDIA_TYPE));
    assert_eq!(refusal(|request| request.body = "01234567890".into()), Some(Problem::INNER_TOO_LARGE));
}

#[test]
fn a_table_that_makes_no_sense_is_refused_with_the_number_of_its_line() {
    for spoil in [
        (|route| route.method = "A B".into()) as fn(&mut RouteConfig),
        |route| route.authority = "user@host".into(),
        |route| route.path = "tasks".into(),
        |route| route.path = "/tasks/{a".into(),
        |route| route.path = "/tasks/{}".into(),
        |route| route.path = "/tasks/..".into(),
        |route| route.path = "/tasks?x".into(),
        |route| route.content_type = Some("nothing".into()),
        |route| route.forward_headers = vec!["Accept".into()],
        |route| route.forward_headers = vec!["host".into()],
        |route| route.forward_headers = vec!["x-real-ip".into()],
        |route| route.forward_headers = vec!["traceparent".into()],
        |route| route.forward_headers = vec!["keep-alive".into()],
        |route| route.forward_headers = vec!["authorization".into()],
        |route| route.method = "post".into(),
        |route| route.method = "PSOT".into(),
        |route| route.max_bytes = 0,
        |route| route.target = "https://10.0.0.2".into(),
        |route| route.path = "/tasks/{other}".into(),
        |route| route.merge = Some(MergeConfig { reports: 1, wait: Duration::ZERO }),
        |route| route.merge = Some(MergeConfig { reports: 1_001, wait: Duration::ZERO }),
        |route| route.merge = Some(MergeConfig { reports: 2, wait: Duration::from_secs(2) }),
        |route| {
            route.content_type = Some("text/plain".into());
            route.merge = Some(MergeConfig { reports: 2, wait: Duration::ZERO });
        },
        |route| route.target = "ftp://x".into(),
        |route| route.target = "nothing".into(),
        |route| route.target = "http://10.0.0.1".into(),
    ] {
        let good =
            RouteConfig::new("POST", "leader.example", "/tasks/{task}", Some(UPLOAD), "https://10.0.0.1");
        let mut bad = good.clone();
        spoil(&mut bad);
        let error = RouteTable::build(&[good, bad], &Peers::default()).err().unwrap().to_string();
        assert!(error.starts_with("route 2: "), "{error}");
    }
}

#[test]
fn a_route_that_contradicts_the_gateway_is_refused_with_its_key() {
    let good = RouteConfig::new("POST", "a.example", "/a", Some(UPLOAD), "https://10.0.0.1");
    let refused = |spoil: fn(&mut Config)| {
        let mut config = Config::new("127.0.0.1:8483", "sqlite:a.db", vec![good.clone()]);
        spoil(&mut config);
        match RouteTable::of(&config, &Peers::default()).err() {
            Some(RouteError::Value { route: 1, key, .. }) => key,
            Some(other) => panic!("{other}"),
            None => "",
        }
    };
    assert_eq!(refused(|_| ()), "");
    assert_eq!(refused(|config| config.max_request_bytes = 512), "", "the default says nothing");
    assert_eq!(refused(|config| config.routes[0].max_bytes = config.max_request_bytes + 1), "max_bytes");
}
