//! A client of HTTP/1.1, for tests and measurements: one request after the other on a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// If the server takes no connection.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: address.to_string(),
        })
    }

    /// Sends the head of a request, each header as "name: value".
    ///
    /// # Errors
    /// If the server has closed the connection.
    pub fn send_head(&mut self, request: &str, headers: &[&str]) -> io::Result<()> {
        let mut head = format!("{request} HTTP/1.1\r\n");
        if !headers.iter().any(|header| header.starts_with("host:")) {
            head += &format!("host: {}\r\n", self.host);
        }
        for header in headers {
            head += &format!("{header}\r\n");
        }
        self.send(format!("{head}\r\n").as_bytes())
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// If the server has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request, such as "POST /path", and receives the answer.
    ///
    /// # Errors
    /// If the server closes the connection or answers nothing.
    pub fn request(&mut self, request: &str, headers: &[&str], body: &[u8]) -> io::Result<Answer> {
        let length = format!("content-length: {}", body.len());
        self.send_head(request, &[headers, &[&length]].concat())?;
        // A server may answer before it has read the body.
        let sent = self.send(body);
        self.receive().or_else(|error| sent.and(Err(error)))
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// If the server closes the connection or sends nothing.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Receives the status and the headers.
    ///
    /// # Errors
    /// If the server closes the connection or sends no answer.
    pub fn receive_head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {line}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Receives an answer.
    ///
    /// # Errors
    /// If the server closes the connection or sends no answer.
    pub fn receive(&mut self) -> io::Result<Answer> {
        let mut answer = self.receive_head()?;
        if answer.status == 100 {
            return self.receive();
        }
        if answer.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.header("content-length").parse().unwrap_or(0);
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// The next chunk of a body that is sent in chunks; `None` at its end.
    ///
    /// # Errors
    /// If the server closes the connection or sends no chunk.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk)?;
        self.line()?;
        Ok((length > 0).then_some(chunk))
    }
}

/// Sends a request on a connection of its own.
///
/// # Panics
/// If there is no answer.
pub fn request(address: SocketAddr, request: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut connection = Connection::open(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    let answer = connection.request(request, headers, body);
    answer.unwrap_or_else(|e| panic!("{request}: {e}"))
}
