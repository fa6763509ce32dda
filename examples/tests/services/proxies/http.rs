//! A minimal HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use test_support::process::PROCESS_TIMEOUT;

pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl HttpResponse {
    /// Returns the first value of a header, or the empty string.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map_or("", |(_, value)| value)
    }
}

pub(crate) fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
    send(port, "GET", path, headers, "")
}

/// Sends a request from this loopback address.
pub(crate) fn get_from(
    client: Ipv4Addr,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
) -> HttpResponse {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((client, 0).into())?;
        let server = (Ipv4Addr::LOCALHOST, port).into();
        socket.connect(server).await?.into_std()
    });
    let stream = stream.expect("a server");
    stream.set_nonblocking(false).expect("a socket");
    exchange(stream, "GET", path, headers, "")
}

pub(crate) fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpResponse {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    exchange(stream, method, path, headers, body)
}

fn exchange(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpResponse {
    let length = body.len().to_string();
    let length = [("Content-Length", &*length)];
    stream
        .set_read_timeout(Some(PROCESS_TIMEOUT))
        .expect("a socket");
    // HTTP/1.0: the response is not chunked, and the connection closes after it.
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers.iter().chain(&length) {
        write!(request, "{name}: {value}\r\n").expect("into memory");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    stream.write_all(&request).expect("a server that reads");
    let mut response = Vec::new();
    stream
        .read_to_end(&mut response)
        .expect("a response in time");
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").expect(&response);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    HttpResponse {
        status: status.expect(head),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
