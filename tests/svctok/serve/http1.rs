//! A minimal HTTP/1.1 client that sends raw bytes.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::NODE_TIMEOUT;

/// A request that can be sent repeatedly.
#[derive(Clone)]
pub(crate) struct HttpRequest {
    line: String,
    headers: String,
    body: String,
}

#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpRequest {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            line: format!("{method} {target} HTTP/1.1\r\nhost: svctok.test\r\n"),
            headers: String::new(),
            body: String::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Creates a `POST` request with a JSON body.
    pub(crate) fn post(target: &str, body: &str) -> Self {
        let request = Self::new("POST", target).with("content-type", "application/json");
        request.with_body(body)
    }

    /// Creates a `POST` request with a form that contains this token.
    pub(crate) fn form(target: &str, token: &str) -> Self {
        let request = Self::new("POST", target);
        let request = request.with("content-type", "application/x-www-form-urlencoded");
        request.with_body(&format!("token={token}"))
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        write!(self.headers, "{name}: {value}\r\n").unwrap();
        self
    }

    pub(crate) fn with_key(self, token: &str) -> Self {
        self.with("x-api-key", token)
    }

    pub(crate) fn with_body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = match self.body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        let Self {
            line,
            headers,
            body,
        } = self;
        format!("{line}{headers}{length}\r\n{body}").into_bytes()
    }

    /// Sends the request on a new connection.
    pub(crate) async fn send(&self, address: SocketAddr) -> HttpResponse {
        self.try_send(address).await.unwrap()
    }

    pub(crate) async fn try_send(&self, address: SocketAddr) -> io::Result<HttpResponse> {
        let mut stream = TcpStream::connect(address).await?;
        exchange(&mut stream, &self.bytes()).await
    }
}

/// Sends these bytes and reads one response.
pub(crate) async fn exchange<S>(stream: &mut S, bytes: &[u8]) -> io::Result<HttpResponse>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    read_response(stream).await
}

/// Reads one response and nothing after it.
pub(crate) async fn read_response(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<HttpResponse> {
    let read = timeout(NODE_TIMEOUT, read(stream)).await;
    read.expect("a response in time")
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<HttpResponse> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut response = HttpResponse {
        status,
        head,
        body: String::new(),
    };
    let length = response.header("content-length");
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    response.body = String::from_utf8(body).unwrap();
    Ok(response)
}

impl HttpResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn assert(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}{}", self.head, self.body);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Returns the string at this JSON pointer of the body.
    pub(crate) fn text(&self, pointer: &str) -> String {
        let json = self.json();
        let found = json.pointer(pointer).and_then(Value::as_str);
        found
            .unwrap_or_else(|| panic!("no string at {pointer}: {json}"))
            .to_owned()
    }
}
