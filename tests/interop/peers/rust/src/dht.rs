//! Commands on the DHT.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::AsyncWriteExt;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{
    Behaviour, GetProvidersOk, GetRecordOk, PeerInfo, QueryId, QueryResult, Quorum, Record, RecordKey,
};
use libp2p::PeerId;
use serde_json::{json, Value};
use tokio::sync::mpsc;

use crate::client::since;
use crate::host::Host;
use crate::{wire, Failure, Reply, Request};

const K: u64 = 20;
const BOOTSTRAP_WAIT: Duration = Duration::from_secs(10);
const ANSWER_MAX: usize = 4 << 20; // bytes
const CLOSER_PEERS: u64 = 8; // field of Message
const PEER_ID: u64 = 1; // field of Peer

fn no_dht() -> Failure {
    Failure::new("this process runs without a DHT (--dht)")
}

/// The steps of a query: the next result, and whether it is the last.
struct Steps(mpsc::UnboundedReceiver<(QueryResult, bool)>);

impl Steps {
    async fn next(&mut self) -> Option<(QueryResult, bool)> {
        self.0.recv().await
    }
}

async fn query_with(
    h: &Host,
    begin: impl FnOnce(&mut Behaviour<MemoryStore>) -> Result<QueryId, String> + Send + 'static,
) -> Result<(QueryId, Steps), Failure> {
    let (sender, steps) = mpsc::unbounded_channel();
    let id = h
        .with(move |s| {
            let kad = s.swarm.behaviour_mut().kad.as_mut().ok_or_else(no_dht)?;
            let id = begin(kad)?;
            s.queries.insert(id, sender);
            Ok::<_, Failure>(id)
        })
        .await??;
    Ok((id, Steps(steps)))
}

/// Ends a query of which enough is known.
async fn finish(h: &Host, id: QueryId) -> Result<(), Failure> {
    h.with(move |s| {
        s.queries.remove(&id);
        if let Some(mut query) = s.swarm.behaviour_mut().kad.as_mut().and_then(|kad| kad.query_mut(&id)) {
            query.finish();
        }
    })
    .await
}

/// Dials a bootstrap node and waits until it is in the routing table.
async fn join(h: &Host, addr: &str) -> Result<(), Failure> {
    let peer = tokio::time::timeout(BOOTSTRAP_WAIT, h.dial(addr)).await???;
    let end = Instant::now() + BOOTSTRAP_WAIT;
    while h.kad_protocol.is_some() && ids_in_table(h).await?.is_empty() {
        if Instant::now() > end {
            h.disconnect(peer).await?;
            return Err(Failure::new("connected, but it did not enter the routing table"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub async fn bootstrap(h: Arc<Host>, addrs: Vec<String>) {
    for addr in &addrs {
        for _ in 0..60 {
            match join(&h, addr).await {
                Ok(()) => break,
                Err(f) => eprintln!("bootstrap {addr}: {}", f.text),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    if h.kad_protocol.is_some() && !addrs.is_empty() {
        if let Err(f) = refresh(&h).await {
            eprintln!("bootstrap: {}", f.text);
        }
    }
}

pub async fn refresh(h: &Host) -> Reply {
    let start = Instant::now();
    let (_, mut steps) = query_with(h, |kad| kad.bootstrap().map_err(|e| e.to_string())).await?;
    while let Some((_, last)) = steps.next().await {
        if last {
            break;
        }
    }
    Ok(json!({ "ms": since(start) }))
}

async fn ids_in_table(h: &Host) -> Result<Vec<String>, Failure> {
    h.with(|s| {
        let kad = s.swarm.behaviour_mut().kad.as_mut().ok_or_else(no_dht)?;
        let mut peers = vec![];
        for bucket in kad.kbuckets() {
            peers.extend(bucket.iter().map(|e| e.node.key.preimage().to_string()));
        }
        Ok(peers)
    })
    .await?
}

pub async fn table(h: &Host) -> Reply {
    Ok(json!({ "peers": ids_in_table(h).await? }))
}

async fn closest_peers(h: &Host, key: Vec<u8>) -> Result<Vec<PeerInfo>, Failure> {
    let count = NonZeroUsize::new(K as usize).expect("K is not 0");
    let (_, mut steps) = query_with(h, move |kad| Ok(kad.get_n_closest_peers(key, count))).await?;
    let mut found = vec![];
    while let Some((result, last)) = steps.next().await {
        match result {
            QueryResult::GetClosestPeers(Ok(ok)) => found = ok.peers,
            QueryResult::GetClosestPeers(Err(e)) => return Err(e.into()),
            _ => {}
        }
        if last {
            break;
        }
    }
    Ok(found)
}

pub async fn closest(h: &Host, q: &Request) -> Reply {
    let key = q.bytes("key")?;
    let start = Instant::now();
    let found = closest_peers(h, key).await?;
    let ids: Vec<_> = found.iter().filter(|p| p.peer_id != h.id).map(|p| p.peer_id.to_string()).collect();
    Ok(json!({ "peers": ids, "ms": since(start) }))
}

/// One FIND_NODE to one peer on a stream of its own, which is how the library does it too.
pub async fn find_node(h: &Host, peer: PeerId, key: &[u8]) -> Result<Vec<String>, Failure> {
    let protocol = h.kad_protocol.as_ref().ok_or_else(no_dht)?;
    let mut s = h.open(peer, protocol).await?;
    s.write_all(&wire::find_node(key)).await?;
    s.close().await?;
    let m = wire::read_message(&mut s, ANSWER_MAX).await?.ok_or_else(|| Failure::new("no answer"))?;
    let bad = || Failure::new("the answer does not parse");
    let mut ids = vec![];
    for (_, entry) in wire::fields(&m).ok_or_else(bad)?.iter().filter(|(number, _)| *number == CLOSER_PEERS) {
        let fields = wire::fields(entry).ok_or_else(bad)?;
        let id = fields.iter().find(|(number, _)| *number == PEER_ID).ok_or_else(bad)?.1;
        ids.push(PeerId::from_bytes(id)?.to_string());
    }
    Ok(ids)
}

pub async fn query(h: &Host, q: &Request) -> Reply {
    let (peer, key) = (h.remote(q.text("peer")).await?, q.bytes("key")?);
    let start = Instant::now();
    let ids = find_node(h, peer, &key).await?;
    Ok(json!({ "peers": ids, "ms": since(start) }))
}

pub async fn find_peer(h: &Host, q: &Request) -> Reply {
    let peer: PeerId = q.text("peer").parse()?;
    let start = Instant::now();
    let found = closest_peers(h, peer.to_bytes()).await?;
    let info = found.into_iter().find(|p| p.peer_id == peer).ok_or_else(|| Failure::new("peer not found"))?;
    let addrs: Vec<_> = info.addrs.iter().map(|a| a.to_string()).collect();
    Ok(json!({ "addrs": addrs, "ms": since(start) }))
}

pub async fn provide(h: &Host, multihash: Vec<u8>) -> Reply {
    let start = Instant::now();
    let key = RecordKey::new(&multihash);
    let (_, mut steps) = query_with(h, move |kad| kad.start_providing(key).map_err(|e| e.to_string())).await?;
    while let Some((result, last)) = steps.next().await {
        if let QueryResult::StartProviding(Err(e)) = result {
            return Err(e.into());
        }
        if last {
            break;
        }
    }
    Ok(json!({ "ms": since(start) }))
}

/// The library's event names providers without addresses, so `addrs` are empty.
pub async fn find_providers(h: &Host, multihash: Vec<u8>, q: &Request) -> Reply {
    let count = q.number("count", K) as usize;
    let start = Instant::now();
    let key = RecordKey::new(&multihash);
    let (id, mut steps) = query_with(h, move |kad| Ok(kad.get_providers(key))).await?;
    let mut found = HashSet::new();
    while let Some((result, last)) = steps.next().await {
        match result {
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => found.extend(providers),
            QueryResult::GetProviders(Err(e)) if found.is_empty() => return Err(e.into()),
            _ => {}
        }
        if last {
            break;
        }
        if found.len() >= count {
            finish(h, id).await?;
            break;
        }
    }
    let list: Vec<Value> = found.iter().map(|p| json!({ "id": p.to_string(), "addrs": [] })).collect();
    Ok(json!({ "providers": list, "ms": since(start) }))
}

pub async fn put(h: &Host, q: &Request) -> Reply {
    let record = Record { key: RecordKey::new(&q.bytes("key")?), value: q.bytes("value")?, publisher: None, expires: None };
    let start = Instant::now();
    let (_, mut steps) =
        query_with(h, move |kad| kad.put_record(record, Quorum::One).map_err(|e| e.to_string())).await?;
    while let Some((result, last)) = steps.next().await {
        if let QueryResult::PutRecord(Err(e)) = result {
            return Err(e.into());
        }
        if last {
            break;
        }
    }
    Ok(json!({ "ms": since(start) }))
}

pub async fn get(h: &Host, q: &Request) -> Reply {
    let key = RecordKey::new(&q.bytes("key")?);
    let start = Instant::now();
    let (id, mut steps) = query_with(h, move |kad| Ok(kad.get_record(key))).await?;
    while let Some((result, last)) = steps.next().await {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                finish(h, id).await?;
                return Ok(json!({ "value": hex::encode(found.record.value), "ms": since(start) }));
            }
            QueryResult::GetRecord(Err(e)) => return Err(e.into()),
            _ => {}
        }
        if last {
            break;
        }
    }
    Err(Failure::new("value not found"))
}

pub async fn mdns_peers(h: &Host) -> Reply {
    let heard: Vec<String> = h.with(|s| s.heard.iter().map(|p| p.to_string()).collect()).await?;
    Ok(json!({ "peers": heard }))
}
