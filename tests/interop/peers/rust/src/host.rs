//! One libp2p host of this process: a task that owns the swarm, and a handle that sends it jobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::core::{ConnectedPoint, Transport};
use libp2p::identity::{self, Keypair};
use libp2p::kad::store::MemoryStore;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Stream, StreamProtocol, SwarmEvent};
use libp2p::{
    autonat, dcutr, identify, kad, mdns, noise, ping, quic, relay, tcp, tls, yamux, Multiaddr, PeerId, Swarm,
};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::nat;
use crate::serve::{self, Counters};
use crate::streams::{self, Open};
use crate::{Failure, Options};

const UPGRADE_TIME: Duration = Duration::from_secs(10); // as the library's builder has it
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIFTED_STREAMS: usize = 4096; // per connection; yamux's connection window has room for no more

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    streams: streams::Behaviour,
    pub identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub kad: Toggle<kad::Behaviour<MemoryStore>>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay: Toggle<relay::Behaviour>,
    pub circuit: Toggle<relay::client::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    pub v1: Toggle<autonat::Behaviour>,
    v2: Toggle<autonat::v2::client::Behaviour>,
    v2_server: Toggle<autonat::v2::server::Behaviour>,
}

pub struct Connection {
    pub peer: PeerId,
    pub addr: Multiaddr,
    pub outbound: bool,
    pub relayed: bool,
    pub opened: SystemTime,
}

type DialAnswer = oneshot::Sender<Result<(), DialError>>;
pub type QuerySteps = mpsc::UnboundedSender<(kad::QueryResult, bool)>;

/// What the host's task owns; jobs get it for themselves while they run.
pub struct State {
    pub swarm: Swarm<Behaviour>,
    pub connections: HashMap<ConnectionId, Connection>,
    pub identified: HashMap<PeerId, identify::Info>,
    pub identify_errors: HashMap<PeerId, String>,
    pub pinged: HashMap<PeerId, Result<Duration, String>>, // by the library's own ping
    pub heard: HashSet<PeerId>,                            // by multicast
    pub nat: nat::Seen,
    pub queries: HashMap<kad::QueryId, QuerySteps>,
    dials: HashMap<ConnectionId, DialAnswer>,
    closings: Vec<(PeerId, oneshot::Sender<()>)>,
    kad_protocol: Option<StreamProtocol>,
    counters: Arc<Counters>,
}

type Job = Box<dyn FnOnce(&mut State) + Send>;

pub struct Host {
    pub id: PeerId,
    pub key: Keypair,
    pub addrs: Vec<String>,
    pub counters: Arc<Counters>,
    pub kad_protocol: Option<StreamProtocol>,
    choosy: bool, // there may be several paths to a peer, and one is better than the others
    jobs: mpsc::UnboundedSender<Job>,
    want: mpsc::UnboundedSender<Open>,
}

fn make_key(o: &Options, i: usize) -> Result<Keypair, Failure> {
    let mut seed: [u8; 32] = match &o.seed {
        Some(n) => Sha256::digest(format!("warren-test-key:{n}:{i}")).into(),
        None => rand::random(),
    };
    match o.key.as_str() {
        "ed25519" => Ok(Keypair::ed25519_from_bytes(&mut seed)?),
        "secp256k1" => {
            let secret = identity::secp256k1::SecretKey::try_from_bytes(&mut seed)?;
            Ok(identity::secp256k1::Keypair::from(secret).into())
        }
        "ecdsa" => Ok(Keypair::generate_ecdsa()),
        other => Err(Failure::unsupported(format!("rust-libp2p cannot make {other} keys"))),
    }
}

type Upgraded = Boxed<(PeerId, StreamMuxerBox)>;

fn make_quic(o: &Options, key: &Keypair) -> Upgraded {
    let mut config = quic::Config::new(key);
    if o.lifted {
        config.max_concurrent_stream_limit = LIFTED_STREAMS as u32;
    }
    quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
}

/// What listens and dials; through relays as well when there is a transport for that.
fn make_transport(o: &Options, key: &Keypair, relays: Option<relay::client::Transport>) -> Result<Upgraded, Failure> {
    let mut muxer = yamux::Config::default();
    if o.lifted {
        muxer.set_max_num_streams(LIFTED_STREAMS);
    }
    // the same steps on several types of socket, under two security protocols
    macro_rules! upgraded {
        ($socket:expr, $security:expr) => {
            $socket
                .upgrade(Version::V1Lazy)
                .authenticate($security)
                .multiplex(muxer.clone())
                .timeout(UPGRADE_TIME)
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed()
        };
    }
    macro_rules! secured {
        ($socket:expr) => {
            if o.tls { upgraded!($socket, tls::Config::new(key)?) } else { upgraded!($socket, noise::Config::new(key)?) }
        };
    }
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    let mut all = match (&o.psk, o.transport.as_str()) {
        (None, "quic") => make_quic(o, key),
        (None, "both") => either(secured!(tcp()), make_quic(o, key)),
        (None, _) => secured!(tcp()),
        (Some(file), _) => {
            let psk: PreSharedKey = std::fs::read_to_string(file)?.parse()?;
            secured!(tcp().and_then(move |socket, _| PnetConfig::new(psk).handshake(socket)))
        }
    };
    if let Some(relays) = relays {
        all = either(secured!(relays), all); // relays first: a circuit's address begins like that of its relay
    }
    Ok(all)
}

fn either(first: Upgraded, second: Upgraded) -> Upgraded {
    first.or_transport(second).map(|either, _| either.into_inner()).boxed()
}

fn make_behaviour(
    o: &Options,
    key: &Keypair,
    streams: streams::Behaviour,
    circuit: Option<relay::client::Behaviour>,
    kad_protocol: &Option<StreamProtocol>,
) -> Result<Behaviour, Failure> {
    let id = key.public().to_peer_id();
    let version = "ipfs/0.1.0".to_string();
    // rust-libp2p's own signed records are of a form that nobody else reads, and that js refuses to identify with
    let mut about = match o.legacy_record {
        true => identify::Config::new_with_signed_peer_record(version, key),
        false => identify::Config::new(version, key.public()),
    };
    if let Some(agent) = &o.agent {
        about = about.with_agent_version(agent.clone());
    }
    let kad = kad_protocol.clone().map(|protocol| {
        let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(protocol));
        kad.set_mode(Some(if o.dht == "server" { kad::Mode::Server } else { kad::Mode::Client }));
        kad
    });
    let mdns = match o.mdns {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), id)?),
        false => None,
    };
    Ok(Behaviour {
        streams,
        identify: identify::Behaviour::new(about),
        ping: ping::Behaviour::default(),
        kad: kad.into(),
        mdns: mdns.into(),
        relay: match o.relay {
            true => Some(relay::Behaviour::new(id, nat::relay_config(&o.relay_limits, o.lifted)?)).into(),
            false => None.into(),
        },
        circuit: circuit.into(),
        dcutr: o.dcutr.then(|| dcutr::Behaviour::new(id)).into(),
        v1: o.autonat.contains("v1").then(|| autonat::Behaviour::new(id, nat::v1_config(o))).into(),
        v2: o.autonat.contains("v2").then(autonat::v2::client::Behaviour::default).into(),
        v2_server: o.autonat.contains("v2").then(autonat::v2::server::Behaviour::default).into(),
    })
}

pub async fn start(o: &Options, i: usize) -> Result<Host, Failure> {
    let key = make_key(o, i)?;
    let id = key.public().to_peer_id();
    let kad_protocol = match o.dht.as_str() {
        "off" => None,
        _ => Some(StreamProtocol::try_from_owned(format!("{}/kad/1.0.0", o.dht_prefix))?),
    };
    let counters = Arc::new(Counters::default());
    let (streams, want, incoming) = streams::Behaviour::new(serve::protocols());
    let mut config = libp2p::swarm::Config::with_tokio_executor();
    if o.lifted {
        config = config.with_idle_connection_timeout(DAY).with_max_negotiating_inbound_streams(100_000);
    }
    let choosy = o.circuit || o.dcutr;
    let (relays, circuit) = choosy.then(|| relay::client::new(id)).unzip();
    let behaviour = make_behaviour(o, &key, streams, circuit, &kad_protocol)?;
    let mut swarm = Swarm::new(make_transport(o, &key, relays)?, behaviour, id, config);
    for text in &o.listen {
        let text = text.replace("{h}", &(1 + i / 250).to_string()).replace("{l}", &(1 + i % 250).to_string());
        swarm.listen_on(text.parse()?)?;
    }
    let bound = listening(&mut swarm, o.listen.len()).await?;
    if matches!(o.reach.as_str(), "" | "public") {
        for addr in &bound {
            swarm.add_external_address(addr.clone()); // provider records carry only addresses known to be reachable
        }
    }
    for text in &o.announce {
        swarm.add_external_address(text.parse()?);
    }
    let addrs = bound.iter().map(|a| a.to_string()).collect();

    tokio::spawn(serve::serve(incoming, counters.clone()));
    let (jobs, orders) = mpsc::unbounded_channel();
    let state = State {
        swarm,
        connections: HashMap::new(),
        identified: HashMap::new(),
        identify_errors: HashMap::new(),
        pinged: HashMap::new(),
        heard: HashSet::new(),
        nat: nat::Seen::default(),
        queries: HashMap::new(),
        dials: HashMap::new(),
        closings: vec![],
        kad_protocol: kad_protocol.clone(),
        counters: counters.clone(),
    };
    tokio::spawn(state.live(orders));
    Ok(Host { id, key, addrs, counters, kad_protocol, choosy, jobs, want })
}

/// Waits until every listener has said where it is bound.
async fn listening(swarm: &mut Swarm<Behaviour>, expected: usize) -> Result<Vec<Multiaddr>, Failure> {
    let mut addrs = vec![];
    let end = Instant::now() + Duration::from_secs(10);
    while addrs.len() < expected {
        let wait = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(wait, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr { address, .. }) => addrs.push(address),
            Ok(SwarmEvent::ListenerClosed { reason: Err(e), .. }) => return Err(e.into()),
            Ok(_) => {}
            Err(_) => return Err(Failure::new("no listener came up")),
        }
    }
    Ok(addrs)
}

impl State {
    async fn live(mut self, mut orders: mpsc::UnboundedReceiver<Job>) {
        loop {
            tokio::select! {
                job = orders.recv() => match job {
                    Some(job) => job(&mut self),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                Counters::add(&self.counters.conns_opened, 1);
                let (addr, outbound) = match &endpoint {
                    ConnectedPoint::Dialer { address, .. } => (address, true),
                    ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, false),
                };
                let addr = addr.iter().filter(|p| !matches!(p, Protocol::P2p(_))).collect();
                let (relayed, opened) = (endpoint.is_relayed(), SystemTime::now());
                self.connections.insert(connection_id, Connection { peer: peer_id, addr, outbound, relayed, opened });
                if let Some(answer) = self.dials.remove(&connection_id) {
                    answer.send(Ok(())).ok();
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(answer) = self.dials.remove(&connection_id) {
                    answer.send(Err(error)).ok();
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                Counters::add(&self.counters.conns_closed, 1);
                self.connections.remove(&connection_id);
                if num_established == 0 {
                    self.identified.remove(&peer_id);
                    self.identify_errors.remove(&peer_id);
                    self.pinged.remove(&peer_id);
                    self.closings.retain_mut(|(p, _)| *p != peer_id); // dropping the sender wakes the waiter
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => {
                self.pinged.insert(event.peer, event.result.map_err(|e| e.to_string()));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            })) => {
                if let Some(steps) = self.queries.get(&id) {
                    steps.send((result, step.last)).ok();
                    if step.last {
                        self.queries.remove(&id);
                    }
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.on_listener_closed(listener_id, reason.map_err(|e| e.to_string()));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => eprintln!("relay: {event:?}"),
            SwarmEvent::Behaviour(BehaviourEvent::Circuit(event)) => self.on_circuit(event),
            SwarmEvent::Behaviour(BehaviourEvent::Dcutr(event)) => self.on_punch(event),
            SwarmEvent::Behaviour(BehaviourEvent::V1(event)) => eprintln!("autonat v1: {event:?}"),
            SwarmEvent::Behaviour(BehaviourEvent::V2(event)) => self.on_verdict(event),
            SwarmEvent::Behaviour(BehaviourEvent::V2Server(event)) => eprintln!("autonat v2: {event:?}"),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(list))) => {
                self.heard.extend(list.into_iter().map(|(peer, _)| peer));
            }
            _ => {}
        }
    }

    fn direct(&self, peer: PeerId) -> Option<ConnectionId> {
        let direct = self.connections.iter().filter(|(_, c)| c.peer == peer && !c.relayed);
        direct.map(|(id, _)| *id).next()
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } => {
                // what applications do: whoever speaks our DHT's protocol is a server, at the addresses it names
                if let (Some(protocol), Some(kad)) = (&self.kad_protocol, self.swarm.behaviour_mut().kad.as_mut()) {
                    if info.protocols.contains(protocol) {
                        for addr in &info.listen_addrs {
                            kad.add_address(&peer_id, addr.clone());
                        }
                    }
                }
                self.identified.insert(peer_id, info);
            }
            identify::Event::Error { peer_id, error, .. } => {
                self.identify_errors.insert(peer_id, error.to_string());
            }
            _ => {}
        }
    }
}

impl Host {
    /// Runs f in the host's task.
    pub async fn with<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            answer.send(f(state)).ok();
        });
        self.jobs.send(job).map_err(|_| Failure::new("the host has ended"))?;
        result.await.map_err(|_| Failure::new("the host has ended"))
    }

    pub async fn connected(&self, peer: PeerId) -> Result<bool, Failure> {
        self.with(move |s| s.swarm.is_connected(&peer)).await
    }

    /// The peer that a command names; there has to be a connection to it.
    pub async fn remote(&self, text: &str) -> Result<PeerId, Failure> {
        let peer: PeerId = text.parse()?;
        match self.connected(peer).await? {
            true => Ok(peer),
            false => Err(Failure::new(format!("not connected to {peer}"))),
        }
    }

    /// Opens a connection to exactly this address, even if there is one already.
    pub async fn dial(&self, addr: &str) -> Result<Result<PeerId, DialError>, Failure> {
        let addr: Multiaddr = addr.parse()?;
        let peer = match addr.iter().last() {
            Some(Protocol::P2p(peer)) => peer,
            _ => return Err(Failure::new("the address has no /p2p/ID at its end")),
        };
        let (answer, result) = oneshot::channel();
        self.with(move |s| {
            let opts = DialOpts::peer_id(peer).addresses(vec![addr]).condition(PeerCondition::Always).build();
            s.dials.insert(opts.connection_id(), answer);
            let id = opts.connection_id();
            if let Err(e) = s.swarm.dial(opts) {
                if let Some(answer) = s.dials.remove(&id) {
                    answer.send(Err(e)).ok();
                }
            }
        })
        .await?;
        Ok(result.await.map_err(|_| Failure::new("the host has ended"))?.map(|_| peer))
    }

    /// Closes all connections to the peer and waits until they are gone; how many there were.
    pub async fn disconnect(&self, peer: PeerId) -> Result<usize, Failure> {
        let (closed, gone) = oneshot::channel();
        let count = self
            .with(move |s| {
                let count = s.connections.values().filter(|c| c.peer == peer).count();
                if count > 0 && s.swarm.disconnect_peer_id(peer).is_ok() {
                    s.closings.push((peer, closed));
                }
                count
            })
            .await?;
        gone.await.ok();
        Ok(count)
    }

    /// Opens a stream, on a direct connection if there is one.
    pub async fn open(&self, peer: PeerId, protocol: &StreamProtocol) -> Result<Stream, Failure> {
        let (answer, result) = oneshot::channel();
        let direct = match self.choosy {
            true => self.with(move |s| s.direct(peer)).await?,
            false => None,
        };
        let open = Open { peer, connection: direct, protocol: protocol.clone(), answer };
        self.want.send(open).map_err(|_| Failure::new("the host has ended"))?;
        let stream = result.await.map_err(|_| Failure::new("the connection is gone"))?;
        Ok(stream?)
    }
}
