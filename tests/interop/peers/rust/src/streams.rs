//! A behaviour that hands out raw streams: any number at once in both directions. (libp2p-stream opens one at a time
//! and drops inbound streams that its user does not take quickly enough.)

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{ready, Ready};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::Endpoint;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

type Answer = oneshot::Sender<Result<Stream, String>>;

/// A stream that somebody wants.
#[derive(Debug)]
pub struct Open {
    pub peer: PeerId,
    pub connection: Option<ConnectionId>, // None: any
    pub protocol: StreamProtocol,
    pub answer: Answer,
}

/// A stream that the remote opened.
pub struct Inbound {
    pub stream: Stream,
    pub protocol: StreamProtocol,
}

pub struct Behaviour {
    protocols: Vec<StreamProtocol>,
    wanted: mpsc::UnboundedReceiver<Open>,
    inbound: mpsc::UnboundedSender<Inbound>,
}

impl Behaviour {
    pub fn new(
        protocols: Vec<StreamProtocol>,
    ) -> (Self, mpsc::UnboundedSender<Open>, mpsc::UnboundedReceiver<Inbound>) {
        let (want, wanted) = mpsc::unbounded_channel();
        let (inbound, incoming) = mpsc::unbounded_channel();
        (Behaviour { protocols, wanted, inbound }, want, incoming)
    }

    fn handler(&self) -> Handler {
        Handler { protocols: self.protocols.clone(), inbound: self.inbound.clone(), wanted: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.wanted.poll_recv(cx) {
            // without a connection to the peer the event is dropped, and the waiting side sees its channel close
            Poll::Ready(Some(open)) => {
                let handler = open.connection.map_or(NotifyHandler::Any, NotifyHandler::One);
                Poll::Ready(ToSwarm::NotifyHandler { peer_id: open.peer, handler, event: open })
            }
            _ => Poll::Pending,
        }
    }
}

pub struct Handler {
    protocols: Vec<StreamProtocol>,
    inbound: mpsc::UnboundedSender<Inbound>,
    wanted: VecDeque<Open>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Answer;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(self.protocols.clone()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, Answer, Infallible>> {
        match self.wanted.pop_front() {
            Some(open) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Offer(vec![open.protocol]), open.answer),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.wanted.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Offer, Offer, (), Answer>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => {
                self.inbound.send(Inbound { stream, protocol }).ok();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _), info
            }) => {
                info.send(Ok(stream)).ok();
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let text = match error {
                    StreamUpgradeError::Timeout => "stream negotiation timed out".to_string(),
                    StreamUpgradeError::NegotiationFailed => "the peer does not speak the protocol".to_string(),
                    StreamUpgradeError::Io(e) => format!("stream negotiation: {e}"),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                info.send(Err(text)).ok();
            }
            _ => {}
        }
    }
}

pub struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
