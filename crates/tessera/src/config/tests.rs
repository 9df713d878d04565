//! The values of settings, their sources, and the messages about faults.

use std::io::Write as _;

use tessera_grpc::TlsFiles;

use super::*;

fn surroundings(vars: &[(&str, &str)]) -> Surroundings {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings { file: None, vars, is_root: true, hostname: "desk".into() }
}

fn with_file(text: &str, vars: &[(&str, &str)]) -> (Surroundings, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    (Surroundings { file: Some(file.path().to_owned()), ..surroundings(vars) }, file)
}

fn load(vars: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&surroundings(vars)).map_err(|error| error.to_string())
}

fn load_file(text: &str, vars: &[(&str, &str)]) -> Result<Config, String> {
    let (surroundings, file) = with_file(text, vars);
    let name = file.path().display().to_string();
    Config::load(&surroundings).map_err(|error| error.to_string().replace(&name, "FILE"))
}

#[test]
fn the_defaults_are_sufficient() {
    let config = load(&[("PATH", "/bin")]).unwrap();
    assert_eq!(config.name, "tessera");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.base_url, "http://127.0.0.1:8080");
    assert_eq!(config.data_dir, Path::new("/var/lib/tessera"));
    assert_eq!(config.mail_from, "tessera@desk");
    assert!(config.database_url.is_none() && config.admin_token.is_none() && config.smtp_url.is_none());
    assert!(config.bin_dir.is_none() && config.webhook_allow.is_empty() && config.delivers);
    assert!(config.metrics_token.is_none() && config.otlp_endpoint.is_none());
    assert_eq!(config.connections_max, 1_024);
    assert_eq!(config.pool_sizes, PoolSizes::DEFAULT);
    assert_eq!(config.grpc, Some(Address::Tcp("127.0.0.1:8081".parse().unwrap())));
}

#[test]
fn the_sizes_of_the_pools_have_bounds() {
    let config = load(&[("TESSERA_DATABASE__CONNECTIONS__CHANGES", "20")]).unwrap();
    assert_eq!(config.pool_sizes, PoolSizes { changes: 20, ..PoolSizes::DEFAULT });
    for (name, value, bounds) in [
        ("CHANGES", "0", "1 to 200"),
        ("PREVIEWS", "201", "1 to 200"),
        ("READ", "0", "1 to 200"),
        ("SEARCHES", "1", "2 to 200"),
        ("WRITE", "4000000000", "1 to 200"),
    ] {
        let name = format!("TESSERA_DATABASE__CONNECTIONS__{name}");
        let fault = load(&[(&name, value)]).unwrap_err();
        assert_eq!(fault, format!("{name}: {value} must be {bounds}"));
    }
}

#[test]
fn the_default_file_contains_every_setting_and_nothing_else() {
    let uncommented: String = DEFAULT
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split(' ').nth(1) == Some("=") => setting,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let settings: Settings = Figment::from(Toml::string(&uncommented)).extract().unwrap();
    let Settings {
        name,
        base_url,
        data_dir,
        http,
        grpc,
        database,
        auth,
        mail,
        webhook: Webhook { allow },
        delivery,
        metrics: Metrics { token, token_file },
        telemetry: Telemetry { otlp_endpoint },
        retention,
    } = settings;
    assert_eq!(retention, Retention::default());
    assert!([token, token_file, otlp_endpoint].iter().all(Option::is_some));
    assert_eq!(http.connections_max, Some(1_024));
    let DatabaseConnections { changes, previews, read, searches, write } = database.connections;
    let default = PoolSizes::DEFAULT;
    assert_eq!([changes, previews, read], [default.changes, default.previews, default.read].map(Some));
    assert_eq!([searches, write], [default.searches, default.write].map(Some));
    let all =
        [name, base_url, data_dir, http.listen, database.url, database.url_file, database.embedded.bin_dir];
    assert!(all.iter().all(Option::is_some), "{all:?}");
    let Mail { smtp_url, smtp_url_file, from } = mail;
    let all = [auth.admin_token, auth.admin_token_file, smtp_url, smtp_url_file, from];
    assert!(all.iter().all(Option::is_some), "{all:?}");
    assert!(uncommented.contains("\nallow = ") && allow.is_empty());
    let all = [grpc.listen, grpc.socket, grpc.tls_cert_file, grpc.tls_key_file, grpc.client_ca_file];
    assert!(grpc.enabled && all.iter().all(Option::is_some), "{all:?}");
    assert!(uncommented.contains("\nenabled = ") && delivery.enabled);
    for days in ["traces_days", "attempts_days", "payloads_days"] {
        assert!(uncommented.contains(&format!("\n{days} = 90\n")), "{days}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "name = \"file\"\nbase_url = \"https://file.example/\"\n[http]\nlisten = \"127.0.0.1:1\"\n\
                [webhook]\nallow = [\"10.0.0.0/8\", \"192.168.1.1/32\"]\n[mail]\nfrom = \"file@example.org\"";
    let config = load_file(file, &[("TESSERA_NAME", "env"), ("TESSERA_HTTP__LISTEN", "[::1]:2")]).unwrap();
    assert_eq!(config.name, "env");
    assert_eq!(config.listen.to_string(), "[::1]:2");
    assert_eq!(config.base_url, "https://file.example");
    assert_eq!(config.mail_from, "file@example.org");
    assert_eq!(config.webhook_allow.len(), 2);

    let config = load_file(file, &[("TESSERA_WEBHOOK__ALLOW", "127.0.0.0/8, 10.1.0.0/16")]).unwrap();
    let allowed: Vec<_> = config.webhook_allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["127.0.0.0/8", "10.1.0.0/16"]);
    assert!(load_file(file, &[("TESSERA_WEBHOOK__ALLOW", "")]).unwrap().webhook_allow.is_empty());

    assert!(load_file(file, &[("TESSERA_DELIVERY__ENABLED", "false")]).is_ok_and(|config| !config.delivers));
    let quiet = "[delivery]\nenabled = false";
    assert!(load_file(quiet, &[("TESSERA_DELIVERY__ENABLED", "true")]).is_ok_and(|config| config.delivers));
}

#[test]
fn text_from_the_environment_stays_text() {
    for text in ["12345678901234567890", "true_true_true_true", "[1,2,3,4,5,6,7,8]", "0x10_0x10_0x10_0x10"] {
        let config = load(&[("TESSERA_AUTH__ADMIN_TOKEN", text), ("TESSERA_NAME", text)]).unwrap();
        assert_eq!(config.admin_token.unwrap().expose(), text);
        assert_eq!(config.name, text);
    }
}

#[test]
fn a_fault_names_the_setting_and_the_source() {
    let environment = [
        (
            "TESSERA_HTTP__PORT",
            "1",
            "TESSERA_HTTP__PORT: is not a known setting; known here: listen, connections_max",
        ),
        (
            "TESSERA_NAMES",
            "1",
            "TESSERA_NAMES: is not a known setting; known here: name, base_url, data_dir, http, grpc, database, \
             auth, mail, webhook, delivery, metrics, telemetry, retention",
        ),
        ("TESSERA_MAIL", "x", "TESSERA_MAIL: is a section with settings of its own, not a value"),
        (
            "TESSERA_WEBHOOK__ALLOW",
            "127.0.0.0/8,10.0.0.0/40",
            "TESSERA_WEBHOOK__ALLOW: \"10.0.0.0/40\" is not a network, such as 127.0.0.0/8 or 10.1.2.3/32",
        ),
        (
            "TESSERA_HTTP__LISTEN",
            "8080",
            "TESSERA_HTTP__LISTEN: \"8080\" is not an address with a port, such as 127.0.0.1:8080",
        ),
        ("TESSERA_BASE_URL", "tickets", "TESSERA_BASE_URL: \"tickets\" is not an http or https URL"),
        (
            "TESSERA_DATABASE__URL",
            "mysql://u:hunter2@h/d",
            "TESSERA_DATABASE__URL: is not a postgres://user:password@host/name URL",
        ),
        (
            "TESSERA_MAIL__SMTP_URL",
            "http://u:hunter2@h",
            "TESSERA_MAIL__SMTP_URL: is not an smtp:// or smtps:// URL with a host",
        ),
        ("TESSERA_MAIL__FROM", "desk", "TESSERA_MAIL__FROM: \"desk\" is not a mail address"),
        ("TESSERA_AUTH__ADMIN_TOKEN", "short", "TESSERA_AUTH__ADMIN_TOKEN: is shorter than 16 characters"),
        (
            "TESSERA_AUTH__ADMIN_TOKEN",
            "",
            "TESSERA_AUTH__ADMIN_TOKEN: is empty; remove it to use the default",
        ),
        ("TESSERA_METRICS__TOKEN", "short", "TESSERA_METRICS__TOKEN: is shorter than 16 characters"),
        ("TESSERA_HTTP__CONNECTIONS_MAX", "0", "TESSERA_HTTP__CONNECTIONS_MAX: 0 must be 1 to 100000"),
        ("TESSERA_HTTP__CONNECTIONS_MAX", "-1", "TESSERA_HTTP__CONNECTIONS_MAX: expected a whole number"),
        ("TESSERA_HTTP__CONNECTIONS_MAX", "many", "TESSERA_HTTP__CONNECTIONS_MAX: expected a whole number"),
        (
            "TESSERA_TELEMETRY__OTLP_ENDPOINT",
            "https://collector:4317",
            "TESSERA_TELEMETRY__OTLP_ENDPOINT: \"https://collector:4317\" is not an http URL, such as http://127.0.0.1:4317",
        ),
        ("TESSERA_NAME", "a\r\nBcc: x", "TESSERA_NAME: contains a control character"),
    ];
    for (name, value, message) in environment {
        assert_eq!(load(&[(name, value)]).unwrap_err(), message);
    }

    let files = [
        (
            "[http]\nport = 1",
            "http.port in FILE: is not a known setting; known here: listen, connections_max",
        ),
        ("[auth]\nadmin_token = 1234567890123456", "auth.admin_token in FILE: expected text, in quotes"),
        (
            "[webhook]\nallow = [\"x\"]",
            "webhook.allow in FILE: \"x\" is not a network, such as 127.0.0.0/8 or 10.1.2.3/32",
        ),
        ("[webhook]\nallow = \"10.0.0.0/8\"", "webhook.allow in FILE: expected a sequence"),
        ("[delivery]\nenabled = \"no\"", "delivery.enabled in FILE: expected a boolean"),
    ];
    for (text, message) in files {
        assert_eq!(load_file(text, &[]).unwrap_err(), message);
    }
}

#[test]
fn a_syntax_error_in_a_file_is_reported_with_its_position_and_without_the_text() {
    let message = load_file("[auth]\nadmin_token = \"hunter2hunter2", &[]).unwrap_err();
    assert!(message.starts_with("FILE: ") && message.contains("line 2"), "{message}");
    assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let surroundings = Surroundings { file: Some("/nowhere/tessera.toml".into()), ..surroundings(&[]) };
    let message = Config::load(&surroundings).unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/tessera.toml: cannot be read"), "{message}");
}

#[test]
fn secrets_can_be_read_from_files_and_are_hidden_in_debug_output() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"0123456789abcdef0123\n").unwrap();
    let path = file.path().to_str().unwrap();
    let config = load(&[("TESSERA_AUTH__ADMIN_TOKEN_FILE", path)]).unwrap();
    assert_eq!(config.admin_token.as_ref().unwrap().expose(), "0123456789abcdef0123");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));

    let both = [("TESSERA_AUTH__ADMIN_TOKEN_FILE", path), ("TESSERA_AUTH__ADMIN_TOKEN", "0123456789abcdef")];
    let message = "TESSERA_AUTH__ADMIN_TOKEN_FILE: auth.admin_token is also set; remove one of them";
    assert_eq!(load(&both).unwrap_err(), message);
    let message = load(&[("TESSERA_MAIL__SMTP_URL_FILE", "/nowhere/url")]).unwrap_err();
    assert!(message.starts_with("TESSERA_MAIL__SMTP_URL_FILE: /nowhere/url cannot be read"), "{message}");
}

#[test]
fn an_unknown_parameter_of_the_database_is_named_without_its_value() {
    for (query, shown) in [
        ("sslpassword=hunter2", "sslpassword"),
        ("sslmode=require&pasword=hunter2", "pasword"),
        ("password=x&hunter2", "?"),
        ("options[a=hunter2", "options[a"),
    ] {
        let url = format!("postgres://h/desk?{query}");
        let fault = load(&[("TESSERA_DATABASE__URL", &url)]).unwrap_err();
        assert_eq!(fault, format!("TESSERA_DATABASE__URL: has an unknown parameter: {shown}"));
    }
    let url = "postgres://h/desk?ssl-mode=require&options[search_path]=x&statement-cache-capacity=9";
    assert!(load(&[("TESSERA_DATABASE__URL", url)]).is_ok());
}

#[test]
fn the_data_directory_has_a_default_for_root_and_for_other_users() {
    let place = |vars: &[(&str, &str)]| {
        Config::load(&Surroundings { is_root: false, ..surroundings(vars) }).map(|config| config.data_dir)
    };
    assert_eq!(place(&[("HOME", "/home/a")]).unwrap(), Path::new("/home/a/.local/share/tessera"));
    assert_eq!(place(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/d")]).unwrap(), Path::new("/d/tessera"));
    assert_eq!(place(&[("HOME", "/home/a"), ("TESSERA_DATA_DIR", "/e")]).unwrap(), Path::new("/e"));
    assert!(place(&[]).unwrap_err().to_string().starts_with("TESSERA_DATA_DIR: "));
}

#[test]
fn days_are_numbers_in_the_file_and_in_the_environment() {
    let file = "[retention]\ntraces_days = 7";
    let kept = load_file(file, &[("TESSERA_RETENTION__PAYLOADS_DAYS", "0")]).unwrap().retention;
    assert_eq!((kept.traces_days, kept.attempts_days, kept.payloads_days), (7, 90, 0));
    for (name, value) in
        [("TESSERA_RETENTION__TRACES_DAYS", "soon"), ("TESSERA_RETENTION__TRACES_DAYS", "-1")]
    {
        let fault = load(&[(name, value)]).unwrap_err();
        assert!(fault.starts_with(name), "{fault}");
    }
    assert!(load(&[("TESSERA_RETENTION__DAYS", "1")]).unwrap_err().contains("not a known setting"));
}

#[test]
fn every_fault_is_reported_and_not_only_the_first() {
    let file = "nam = \"x\"\n[http]\nlisten = 1\nport = 2\n[webhook]\nallow = [\"x\", \"10.0.0.0/8\", \"y\"]";
    let vars =
        [("TESSERA_MAIL__FROM", "desk"), ("TESSERA_AUTH__ADMIN_TOKEN", "short"), ("TESSERA_NAMES", "a")];
    let message = load_file(file, &vars).unwrap_err();
    let faults: Vec<_> = message.lines().collect();
    assert_eq!(faults[0], "8 settings are invalid:", "{message}");
    let named = [
        "nam in FILE",
        "http.listen in FILE",
        "http.port in FILE",
        "TESSERA_NAMES",
        "TESSERA_AUTH__ADMIN_TOKEN",
        "TESSERA_MAIL__FROM",
        "webhook.allow in FILE: \"x\"",
        "webhook.allow in FILE: \"y\"",
    ];
    for name in named {
        assert_eq!(
            faults.iter().filter(|line| line.trim().starts_with(name)).count(),
            1,
            "{name}: {message}"
        );
    }
}

#[test]
fn the_mail_transport_validates_its_url_when_the_settings_are_read() {
    let message = load(&[("TESSERA_MAIL__SMTP_URL", "smtp://mail.example.org?tls=maybe")]).unwrap_err();
    let expected = "TESSERA_MAIL__SMTP_URL: has tls=maybe; valid values are required, opportunistic and none";
    assert_eq!(message, expected);
    let message =
        load_file("[mail]\nsmtp_url = \"smtp://user:hunter2@mail.example.org/inbox\"", &[]).unwrap_err();
    assert!(message.starts_with("mail.smtp_url in FILE: contains more than a host"), "{message}");
}

#[test]
fn a_fault_in_a_secret_names_the_setting_of_its_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hunter2").unwrap();
    let message = load(&[("TESSERA_DATABASE__URL_FILE", file.path().to_str().unwrap())]).unwrap_err();
    assert_eq!(message, "TESSERA_DATABASE__URL_FILE: is not a postgres://user:password@host/name URL");
}

#[test]
fn the_settings_are_shown_with_their_sources_and_without_secrets() {
    let file = "[mail]\nsmtp_url = \"smtp://user:hunter2@127.0.0.1:25\"\n[webhook]\nallow = [\"10.0.0.0/8\"]";
    let (surroundings, file) =
        with_file(file, &[("TESSERA_HTTP__LISTEN", "[::1]:2"), ("TESSERA_NAME", "a\"b")]);
    let shown = Config::show(&surroundings).unwrap();
    let line = |start: &str| {
        let line = shown.lines().find(|line| line.starts_with(start));
        let words: Vec<_> = line.unwrap_or_else(|| panic!("{start}: {shown}")).split_whitespace().collect();
        words.join(" ").replace(&file.path().display().to_string(), "FILE")
    };
    assert_eq!(line("name"), "name = \"a\\\"b\" # TESSERA_NAME");
    assert_eq!(line("# base_url"), "# base_url = \"http://[::1]:2\" # not set; computed");
    assert_eq!(line("listen"), "listen = \"[::1]:2\" # TESSERA_HTTP__LISTEN");
    assert_eq!(line("# listen"), "# listen = \"[::1]:3\" # not set; computed");
    assert_eq!(line("# smtp_url ="), "# smtp_url = (set) # FILE");
    assert_eq!(line("allow"), "allow = [\"10.0.0.0/8\"] # FILE");
    assert_eq!(line("# admin_token "), "# admin_token # not set");
    assert!(!shown.contains("hunter2"), "{shown}");

    // The output is a valid settings file with the same values.
    let again = Config::show(&with_file(&shown, &[]).0).unwrap();
    let values = |text: &str| {
        let lines =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split("  #").next().unwrap());
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&shown));
}

#[test]
fn every_setting_is_shown() {
    let keys = show::keys();
    assert!(
        keys.contains(&"database.embedded.bin_dir".to_owned()) && keys.contains(&"name".to_owned()),
        "{keys:?}"
    );
    let shown = Config::show(&surroundings(&[])).unwrap();
    assert_eq!(shown.lines().filter(|line| line.contains("  # ")).count(), keys.len(), "{shown}");
}

#[test]
fn connectors_are_served_on_the_port_after_http_by_default() {
    let served = |vars: &[(&str, &str)]| load(vars).unwrap().grpc;
    let tcp = |address: &str| Some(Address::Tcp(address.parse().unwrap()));
    assert_eq!(served(&[("TESSERA_HTTP__LISTEN", "127.0.0.2:7000")]), tcp("127.0.0.2:7001"));
    assert_eq!(served(&[("TESSERA_HTTP__LISTEN", "[::1]:0")]), tcp("[::1]:0"));
    // A public address for HTTP does not make gRPC public.
    assert_eq!(served(&[("TESSERA_HTTP__LISTEN", "0.0.0.0:8080")]), tcp("127.0.0.1:8081"));
    assert_eq!(served(&[("TESSERA_HTTP__LISTEN", "[::]:8080")]), tcp("[::1]:8081"));
    assert_eq!(served(&[("TESSERA_GRPC__LISTEN", "127.0.0.1:9")]), tcp("127.0.0.1:9"));
    assert_eq!(served(&[("TESSERA_GRPC__ENABLED", "false")]), None);
    let socket = Some(Address::Unix("/run/tessera/grpc.sock".into()));
    assert_eq!(served(&[("TESSERA_GRPC__SOCKET", "/run/tessera/grpc.sock")]), socket);

    let files = [("TESSERA_GRPC__TLS_CERT_FILE", "/c.pem"), ("TESSERA_GRPC__TLS_KEY_FILE", "/k.pem")];
    let more = [("TESSERA_GRPC__LISTEN", "0.0.0.0:8081"), ("TESSERA_GRPC__CLIENT_CA_FILE", "/ca.pem")];
    let tls =
        TlsFiles { certificate: "/c.pem".into(), key: "/k.pem".into(), client_ca: Some("/ca.pem".into()) };
    let expected = Some(Address::Tls("0.0.0.0:8081".parse().unwrap(), tls));
    assert_eq!(served(&[&files[..], &more].concat()), expected);
}

#[test]
fn connectors_need_tls_outside_this_machine_and_have_one_address() {
    let refused: [(&[(&str, &str)], &str); 8] = [
        (
            &[("TESSERA_GRPC__LISTEN", "0.0.0.0:8081")],
            "TESSERA_GRPC__LISTEN: 0.0.0.0:8081 is not a loopback address, and without TLS others could read tokens and messages; \
              set grpc.tls_cert_file and grpc.tls_key_file, or listen on 127.0.0.1 or at grpc.socket",
        ),
        (
            &[("TESSERA_GRPC__LISTEN", "127.0.0.1:1"), ("TESSERA_GRPC__SOCKET", "/s")],
            "TESSERA_GRPC__SOCKET: grpc.listen is also set; remove one of them",
        ),
        (
            &[("TESSERA_GRPC__TLS_CERT_FILE", "/c.pem")],
            "TESSERA_GRPC__TLS_CERT_FILE: grpc.tls_key_file is not set; set both",
        ),
        (
            &[("TESSERA_GRPC__TLS_KEY_FILE", "/k.pem")],
            "TESSERA_GRPC__TLS_KEY_FILE: grpc.tls_cert_file is not set; set both",
        ),
        (
            &[("TESSERA_GRPC__CLIENT_CA_FILE", "/ca.pem")],
            "TESSERA_GRPC__CLIENT_CA_FILE: grpc.tls_cert_file is not set, and client certificates need TLS",
        ),
        (
            &[
                ("TESSERA_GRPC__SOCKET", "/s"),
                ("TESSERA_GRPC__TLS_CERT_FILE", "/c.pem"),
                ("TESSERA_GRPC__TLS_KEY_FILE", "/k.pem"),
            ],
            "TESSERA_GRPC__SOCKET: grpc.tls_cert_file is also set; a socket needs no TLS, so remove one of them",
        ),
        (
            &[("TESSERA_HTTP__LISTEN", "127.0.0.1:65535")],
            "grpc.listen: cannot use the port after http.listen, which is the last one; set an address",
        ),
        (
            &[("TESSERA_GRPC__LISTEN", "8081")],
            "TESSERA_GRPC__LISTEN: \"8081\" is not an address with a port, such as 127.0.0.1:8081",
        ),
    ];
    for (vars, message) in refused {
        assert_eq!(load(vars).unwrap_err(), message);
    }
}
