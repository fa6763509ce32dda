//! Empty PostgreSQL variables. A fake server records the startup and password messages.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::sandbox::{Sandbox, set_mode};

const SSL_REQUEST: u32 = 80_877_103;

/// `AuthenticationCleartextPassword`.
const PASSWORD_REQUEST: [u8; 9] = *b"R\0\0\0\x08\0\0\0\x03";

const VARIABLES: [&str; 13] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGDATABASE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGAPPNAME",
    "PGOPTIONS",
];

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Returns the messages until the password.
fn record(stream: &mut TcpStream) -> io::Result<Vec<Vec<u8>>> {
    let mut messages = vec![read_message(stream)?];
    if messages[0] == SSL_REQUEST.to_be_bytes() {
        stream.write_all(b"N")?;
        messages.push(read_message(stream)?);
    }
    stream.write_all(&PASSWORD_REQUEST)?;
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    messages.push(read_message(stream)?);
    Ok(messages)
}

/// Returns the port of a server, and what it records.
fn start_server() -> (u16, Receiver<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, recorded) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Ok(messages) = record(&mut stream.unwrap())
                && sender.send(messages).is_err()
            {
                return;
            }
        }
    });
    (port, recorded)
}

#[test]
fn empty_variables_of_postgres_count_as_unset() {
    let (port, recorded) = start_server();
    for url in [
        format!("postgres://127.0.0.1:{port}"),
        format!("postgres:///tokens?port={port}"),
    ] {
        let sent = |variables: &[&str]| {
            let sandbox = Sandbox::without_store().with("SVCTOK_STORE", &url);
            sandbox.write(".pgpass", "*:*:*:*:of-pgpass\n");
            set_mode(&sandbox.file(".pgpass"), 0o600);
            let sandbox = variables
                .iter()
                .fold(sandbox, |sandbox, variable| sandbox.with(variable, ""));
            let ran = sandbox.run("list");
            assert_eq!(ran.code, Some(4), "{variables:?}: {ran:?}");
            let messages = recorded.try_iter().next();
            messages.unwrap_or_else(|| panic!("{variables:?}: {ran:?}"))
        };
        let expected = sent(&[]);
        let text = format!(
            "{expected:?} {}",
            String::from_utf8_lossy(&expected.concat())
        );
        assert!(
            text.contains("user\0") && !text.contains("user\0\0"),
            "{text}"
        );
        assert!(text.contains("of-pgpass\0"), "{text}");
        for variable in VARIABLES {
            assert_eq!(sent(&[variable]), expected, "{variable}");
        }
        assert_eq!(sent(&VARIABLES), expected);
    }
}
