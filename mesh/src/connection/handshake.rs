//! The handshake after the header: Noise XXpsk3, then the listener's first record.
//!
//! ```text
//!  dialler                                                listener
//!    │ e ───────────────────────────────────────────────► │ Hello
//!    │ Reply ◄──────────────── e, ee, s, es · its mesh id │
//!    │ s, se, psk · card ───────────────────────────────► │ Proof     tries every password; opens none: "rejected" byte
//!    │ Welcome ◄──────────────────────────── record: card │           open
//!    │ open: the listener knows the password
//! ```
//! The mesh id travels outside the password's seal, so that two meshes with different passwords are told apart; the
//! dialler sends its proof even to a foreign mesh, so that the other end can say so too.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use snow::{HandshakeState, TransportState};

use super::{Config, Error, PREAUTH_MAX_BYTES, Role, session};
use crate::card::{Card, SignedCard};
use crate::identity::NoiseKey;
use crate::name::MeshId;
use crate::noise;

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
/// Which of the pattern's messages mixes the password in.
const PSK_POSITION: u8 = 3;

/// What both ends agree on by the end.
pub(super) struct Opened {
    pub(super) transport: Box<TransportState>,
    pub(super) signed: SignedCard,
    pub(super) card: Card,
    pub(super) uid: u64,
}

pub(super) enum Progress {
    Waiting(Handshake),
    Opened(Box<Opened>),
}

/// One handshake, waiting for the other end's next message.
pub(super) struct Handshake {
    inputs: Inputs,
    stage: Stage,
}

/// All that a handshake is a function of, beside the messages received.
struct Inputs {
    config: Arc<Config>,
    role: Role,
    prologue: [u8; 4],
    seed: [u8; 32],
}

/// What is awaited.
enum Stage {
    Hello,
    Proof { noise: Box<HandshakeState>, hello: Vec<u8> },
    Reply { noise: Box<HandshakeState> },
    Welcome { transport: Box<TransportState>, remote: NoiseKey, uid: u64 },
}

impl Handshake {
    /// Starts; the dialler's first message goes to `out`.
    pub(super) fn start(
        config: Arc<Config>,
        role: Role,
        prologue: [u8; 4],
        seed: [u8; 32],
        out: &mut impl FnMut(Vec<u8>),
    ) -> Result<Self, Error> {
        let inputs = Inputs { config, role, prologue, seed };
        let stage = match role {
            Role::Listener => Stage::Hello,
            Role::Dialler => {
                let mut noise = inputs.noise()?;
                out(write(&mut noise, &[])?);
                Stage::Reply { noise }
            }
        };
        Ok(Self { inputs, stage })
    }

    pub(super) const fn awaits_welcome(&self) -> bool {
        matches!(self.stage, Stage::Welcome { .. })
    }

    /// Takes one message, without its length; answers, each with its length in front, go to `out`.
    pub(super) fn handle_message(self, message: &[u8], out: &mut impl FnMut(Vec<u8>)) -> Result<Progress, Error> {
        let Self { inputs, stage } = self;
        let stage = match stage {
            Stage::Hello => inputs.handle_hello(message, out)?,
            Stage::Reply { noise } => inputs.handle_reply(noise, message, out)?,
            Stage::Proof { noise, hello } => {
                return inputs
                    .handle_proof(noise, &hello, message, out)
                    .map(|opened| Progress::Opened(Box::new(opened)));
            }
            Stage::Welcome { mut transport, remote, uid } => {
                let encoded = session::open(&mut transport, message)?;
                let (signed, card) = inputs.check_card(&encoded, &remote)?;
                return Ok(Progress::Opened(Box::new(Opened { transport, signed, card, uid })));
            }
        };
        Ok(Progress::Waiting(Self { inputs, stage }))
    }
}

impl Inputs {
    /// A fresh state. Its ephemeral key is drawn from the seed, so a second one is the twin of the first.
    fn noise(&self) -> Result<Box<HandshakeState>, Error> {
        let mut rng = ChaCha20Rng::from_seed(self.seed);
        let mut build = || {
            let builder = noise::builder(PATTERN, &mut rng)?
                .prologue(&self.prologue)?
                .local_private_key(self.config.identity.noise_secret())?;
            match self.role {
                Role::Dialler => builder.psk(PSK_POSITION, &self.config.psks[0])?.build_initiator(),
                Role::Listener => builder.build_responder(),
            }
        };
        build().map(Box::new).map_err(|_| Error::Handshake)
    }

    fn handle_hello(&self, hello: &[u8], out: &mut impl FnMut(Vec<u8>)) -> Result<Stage, Error> {
        let (noise, reply) = self.reply_to(hello)?;
        out(reply);
        Ok(Stage::Proof { noise, hello: hello.to_vec() })
    }

    fn reply_to(&self, hello: &[u8]) -> Result<(Box<HandshakeState>, Vec<u8>), Error> {
        let mut noise = self.noise()?;
        read(&mut noise, hello)?;
        let reply = write(&mut noise, &self.config.mesh.0)?;
        Ok((noise, reply))
    }

    fn handle_reply(
        &self,
        mut noise: Box<HandshakeState>,
        reply: &[u8],
        out: &mut impl FnMut(Vec<u8>),
    ) -> Result<Stage, Error> {
        let mesh = read(&mut noise, reply)?;
        let theirs = MeshId(mesh.try_into().map_err(|_| Error::Handshake)?);
        let card = postcard::to_stdvec(&self.config.card).map_err(|_| Error::MalformedCard)?;
        out(write(&mut noise, &card)?);
        self.check_mesh(theirs)?;
        let (transport, remote, uid) = split(noise)?;
        Ok(Stage::Welcome { transport, remote, uid })
    }

    /// Tries the passwords in turn. `snow` does not undo a failed read of this message (its cipher has taken the
    /// failed key), so each further password gets a state rebuilt from the same seed and the same first message.
    fn handle_proof(
        &self,
        noise: Box<HandshakeState>,
        hello: &[u8],
        proof: &[u8],
        out: &mut impl FnMut(Vec<u8>),
    ) -> Result<Opened, Error> {
        let mut first = Some(noise);
        for psk in &self.config.psks {
            let mut noise = match first.take() {
                Some(noise) => noise,
                None => self.reply_to(hello)?.0,
            };
            noise.set_psk(PSK_POSITION.into(), psk).map_err(|_| Error::Handshake)?;
            let Ok(encoded) = read(&mut noise, proof) else { continue };
            let (mut transport, remote, uid) = split(noise)?;
            let (signed, card) = self.check_card(&encoded, &remote)?;
            let welcome = postcard::to_stdvec(&self.config.card).map_err(|_| Error::MalformedCard)?;
            out(session::seal(&mut transport, &welcome));
            return Ok(Opened { transport, signed, card, uid });
        }
        Err(Error::WrongPassword)
    }

    fn check_card(&self, encoded: &[u8], remote: &NoiseKey) -> Result<(SignedCard, Card), Error> {
        let (signed, rest): (SignedCard, _) = postcard::take_from_bytes(encoded).map_err(|_| Error::MalformedCard)?;
        if !rest.is_empty() {
            return Err(Error::MalformedCard);
        }
        let card = signed.verify(self.config.identity.scheme())?;
        self.check_mesh(card.mesh)?;
        if card.noise_key != *remote {
            return Err(Error::OtherKey);
        }
        Ok((signed, card))
    }

    fn check_mesh(&self, theirs: MeshId) -> Result<(), Error> {
        let ours = self.config.mesh;
        if theirs == ours { Ok(()) } else { Err(Error::OtherMesh { ours, theirs }) }
    }
}

/// One handshake message with its length in front.
fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let mut message = vec![0; 2 + PREAUTH_MAX_BYTES];
    let bytes = noise.write_message(payload, &mut message[2..]).map_err(|_| Error::Handshake)?;
    let length = u16::try_from(bytes).map_err(|_| Error::Handshake)?;
    message[..2].copy_from_slice(&length.to_be_bytes());
    message.truncate(2 + bytes);
    Ok(message)
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Error> {
    let mut payload = vec![0; message.len()];
    let bytes = noise.read_message(message, &mut payload).map_err(|_| Error::Handshake)?;
    payload.truncate(bytes);
    Ok(payload)
}

/// The transport, the other end's static key, and a number for this connection that both ends share and neither can
/// choose alone: the beginning of the handshake's hash.
fn split(noise: Box<HandshakeState>) -> Result<(Box<TransportState>, NoiseKey, u64), Error> {
    let remote = noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Error::Handshake)?;
    let uid = noise.get_handshake_hash().first_chunk().copied().map(u64::from_be_bytes).ok_or(Error::Handshake)?;
    let transport = noise.into_transport_mode().map_err(|_| Error::Handshake)?;
    Ok((Box::new(transport), remote, uid))
}
