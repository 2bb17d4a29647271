//! The server side of the test protocols.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::{Stream, StreamProtocol};
use rand::Rng;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::streams::Inbound;

pub const ECHO: StreamProtocol = StreamProtocol::new("/warren-test/echo/1.0.0");
pub const SINK: StreamProtocol = StreamProtocol::new("/warren-test/sink/1.0.0");
pub const SOURCE: StreamProtocol = StreamProtocol::new("/warren-test/source/1.0.0");
pub const RESET: StreamProtocol = StreamProtocol::new("/warren-test/reset/1.0.0");
pub const PERF: StreamProtocol = StreamProtocol::new("/perf/1.0.0");
pub const IO_CHUNK: usize = 64 << 10;

const SERVE_TIME: Duration = Duration::from_secs(600); // no handler outlives this

pub fn protocols() -> Vec<StreamProtocol> {
    vec![ECHO, SINK, SOURCE, RESET, PERF]
}

#[derive(Default)]
pub struct Counters {
    pub conns_opened: AtomicU64,
    pub conns_closed: AtomicU64,
    echo: AtomicU64,
    sink: AtomicU64,
    source: AtomicU64,
    reset: AtomicU64,
    perf: AtomicU64,
    resets_seen: AtomicU64,
    reset_eofs: AtomicU64,
    handler_errors: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub fn export(&self) -> Value {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        json!({
            "connsOpened": get(&self.conns_opened), "connsClosed": get(&self.conns_closed),
            "echo": get(&self.echo), "sink": get(&self.sink), "source": get(&self.source),
            "reset": get(&self.reset), "perf": get(&self.perf), "resetsSeen": get(&self.resets_seen),
            "resetEofs": get(&self.reset_eofs), "handlerErrors": get(&self.handler_errors),
            "bytesIn": get(&self.bytes_in), "bytesOut": get(&self.bytes_out),
        })
    }
}

/// An endless source of pseudo-random bytes, cut from a block whose odd length keeps it from lining up with any buffer.
pub struct Payload {
    at: usize,
}

impl Payload {
    pub fn from(at: usize) -> Self {
        Payload { at: at % Self::block().len() }
    }

    fn block() -> &'static [u8] {
        static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
        BLOCK.get_or_init(|| {
            let mut b = vec![0; (1 << 20) + 4099];
            rand::rng().fill_bytes(&mut b);
            b
        })
    }

    pub fn next(&mut self, max: usize) -> &'static [u8] {
        let rest = &Self::block()[self.at..];
        let b = &rest[..rest.len().min(max)];
        self.at = (self.at + b.len()) % Self::block().len();
        b
    }
}

pub async fn serve(mut incoming: mpsc::UnboundedReceiver<Inbound>, counters: Arc<Counters>) {
    while let Some(Inbound { stream, protocol }) = incoming.recv().await {
        let c = counters.clone();
        tokio::spawn(async move {
            let served = tokio::time::timeout(SERVE_TIME, handle(stream, &protocol, &c)).await;
            let error = match served {
                Ok(Ok(counter)) => return Counters::add(counter, 1),
                Ok(Err(e)) => e.to_string(),
                Err(_) => "took too long".to_string(),
            };
            Counters::add(&c.handler_errors, 1); // the stream is dropped by now, which resets it
            eprintln!("{protocol}: {error}");
        });
    }
}

async fn handle<'a>(mut s: Stream, protocol: &StreamProtocol, c: &'a Counters) -> io::Result<&'a AtomicU64> {
    if *protocol == ECHO {
        echo(&mut s, c).await?;
        s.close().await?;
        Ok(&c.echo)
    } else if *protocol == SINK {
        sink(&mut s, c).await?;
        s.close().await?;
        Ok(&c.sink)
    } else if *protocol == SOURCE {
        source(&mut s, c).await?;
        s.close().await?;
        Ok(&c.source)
    } else if *protocol == RESET {
        reset(s, c).await?;
        Ok(&c.reset)
    } else {
        perf(&mut s, c).await?;
        s.close().await?;
        Ok(&c.perf)
    }
}

async fn echo(s: &mut Stream, c: &Counters) -> io::Result<()> {
    let mut buf = vec![0; IO_CHUNK];
    loop {
        let n = s.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        Counters::add(&c.bytes_in, n as u64);
        s.write_all(&buf[..n]).await?;
        s.flush().await?;
        Counters::add(&c.bytes_out, n as u64);
    }
}

async fn sink(s: &mut Stream, c: &Counters) -> io::Result<()> {
    let mut sum = Sha256::new();
    let mut count = 0u64;
    let mut buf = vec![0; IO_CHUNK];
    loop {
        let n = s.read(&mut buf).await?;
        if n == 0 {
            break;
        }
        sum.update(&buf[..n]);
        count += n as u64;
    }
    Counters::add(&c.bytes_in, count);
    s.write_all(&[&sum.finalize()[..], &count.to_be_bytes()].concat()).await
}

async fn send(s: &mut Stream, total: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut payload = Payload::from(0);
    let mut left = total;
    while left > 0 {
        let b = payload.next(left.min(IO_CHUNK as u64) as usize);
        each(b);
        s.write_all(b).await?;
        left -= b.len() as u64;
    }
    Ok(())
}

async fn source(s: &mut Stream, c: &Counters) -> io::Result<()> {
    let mut head = [0; 8];
    s.read_exact(&mut head).await?;
    let total = u64::from_be_bytes(head);
    let mut sum = Sha256::new();
    send(s, total, |b| sum.update(b)).await?;
    Counters::add(&c.bytes_out, total);
    s.write_all(&sum.finalize()).await
}

async fn reset(mut s: Stream, c: &Counters) -> io::Result<()> {
    let mut op = [0];
    s.read_exact(&mut op).await?;
    match op[0] {
        1 => Ok(()), // dropping the stream resets it
        2 => {
            s.write_all(&op).await?;
            s.flush().await?;
            match s.read(&mut op).await {
                Ok(0) => Counters::add(&c.reset_eofs, 1),
                Ok(_) => return Err(io::Error::other("bytes after op 2")),
                Err(_) => Counters::add(&c.resets_seen, 1),
            }
            Ok(())
        }
        other => Err(io::Error::other(format!("unknown op {other}"))),
    }
}

async fn perf(s: &mut Stream, c: &Counters) -> io::Result<()> {
    let mut head = [0; 8];
    s.read_exact(&mut head).await?;
    let mut buf = vec![0; IO_CHUNK];
    loop {
        let n = s.read(&mut buf).await?;
        if n == 0 {
            break;
        }
        Counters::add(&c.bytes_in, n as u64);
    }
    let total = u64::from_be_bytes(head);
    send(s, total, |_| ()).await?;
    Counters::add(&c.bytes_out, total);
    Ok(())
}
