//! Plain loops for measuring.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use serde_json::{json, Value};

use crate::client::{pings_on, since};
use crate::host::Host;
use crate::serve::ECHO;
use crate::{dht, Failure, Reply, Request};

const HOLD_PARALLEL: u64 = 16;

fn summary(mut times: Vec<f64>, failed: u64, errors: Vec<String>, ms: f64) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| match times.len() {
        0 => Value::Null,
        n => json!(times[((n - 1) as f64 * share) as usize]),
    };
    json!({ "done": times.len(), "failed": failed, "errors": errors, "ms": ms, "p50": at(0.5), "p99": at(0.99) })
}

/// Runs count rounds on parallel workers.
async fn rounds<F, R>(count: u64, parallel: u64, round: F) -> Reply
where
    F: Fn(u64) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Failure>> + Send,
{
    let round = Arc::new(round);
    let next = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(Mutex::new((vec![], 0, vec![]))); // times, failures, texts
    let start = Instant::now();
    let workers: Vec<_> = (0..parallel)
        .map(|_| {
            let (round, next, seen) = (round.clone(), next.clone(), seen.clone());
            tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return;
                    }
                    let t = Instant::now();
                    let result = round(i).await;
                    let mut seen = seen.lock().expect("no worker panics");
                    match result {
                        Ok(()) => seen.0.push(since(t)),
                        Err(f) => {
                            seen.1 += 1;
                            if seen.2.len() < 5 {
                                seen.2.push(f.text);
                            }
                        }
                    }
                }
            })
        })
        .collect();
    let mut aborts = Aborts(workers.iter().map(|w| w.abort_handle()).collect());
    for w in workers {
        w.await?;
    }
    aborts.0.clear();
    let (times, failed, errors) = std::mem::take(&mut *seen.lock().expect("no worker panics"));
    let problem = errors.first().map(|e| format!("{failed} of {count} rounds failed: {e}"));
    let reply = summary(times, failed, errors, since(start));
    match problem {
        None => Ok(reply),
        Some(text) => Err(Failure::with(text, reply)),
    }
}

/// Ends the workers of a command that ran out of time.
struct Aborts(Vec<tokio::task::AbortHandle>);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.iter().for_each(|a| a.abort());
    }
}

/// The smallest conversation: a byte there, the same byte and EOF back.
async fn one_byte(h: &Host, peer: PeerId) -> Result<(), Failure> {
    let mut s = h.open(peer, &ECHO).await?;
    s.write_all(&[0x5a]).await?;
    s.close().await?;
    let mut back = vec![];
    s.read_to_end(&mut back).await?;
    match back[..] {
        [0x5a] => Ok(()),
        _ => Err(Failure::new(format!("{} bytes came back", back.len()))),
    }
}

pub async fn conns(h: &Arc<Host>, q: &Request) -> Reply {
    if q.number("parallel", 1) > 1 {
        return Err(Failure::unsupported("run bench-conns on several hosts instead"));
    }
    let (h, addr) = (h.clone(), q.text("addr").to_string());
    rounds(q.number("count", 1), 1, move |_| {
        let (h, addr) = (h.clone(), addr.clone());
        async move {
            let peer = h.dial(&addr).await??;
            let result = one_byte(&h, peer).await;
            h.disconnect(peer).await?;
            result
        }
    })
    .await
}

pub async fn streams(h: &Arc<Host>, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let h = h.clone();
    rounds(q.number("count", 1), q.number("parallel", 1), move |_| {
        let h = h.clone();
        async move { one_byte(&h, peer).await }
    })
    .await
}

pub async fn pings(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let start = Instant::now();
    let rtts = pings_on(h, peer, q.number("count", 1)).await?;
    Ok(summary(rtts, 0, vec![], since(start)))
}

pub async fn findnode(h: &Arc<Host>, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let h = h.clone();
    rounds(q.number("count", 1), q.number("parallel", 1), move |_| {
        let h = h.clone();
        async move { dht::find_node(&h, peer, &rand::random::<[u8; 32]>()).await.map(drop) }
    })
    .await
}

pub async fn hold(hosts: &[Arc<Host>], first: usize, q: &Request) -> Reply {
    let count = q.number("count", 1);
    if first + count as usize > hosts.len() {
        return Err(Failure::new("hold needs a host per connection (--hosts)"));
    }
    let (hosts, addr) = (hosts[first..].to_vec(), q.text("addr").to_string());
    rounds(count, HOLD_PARALLEL, move |i| {
        let (h, addr) = (hosts[i as usize].clone(), addr.clone());
        async move {
            let peer = h.dial(&addr).await??;
            while !h.with(move |s| s.identified.contains_key(&peer)).await? {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Ok(())
        }
    })
    .await
}
