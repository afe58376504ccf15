//! Docker, as far as containers on the network need it: what touches an engine, and knows nothing of the mesh.
//!
//! ```text
//!   engine.rs   asks the engine: which process a container runs as, what it is called
//!   events.rs   what becomes of containers, as it happens; and all of them anew after every gap
//!   proxy.rs    passes the API on to the engine, octet by octet
//!   wish.rs     what a container asks for, and what it is called; pure
//!   create.rs   what the proxy changes when a container is created; pure
//!   inspect.rs  what it changes when one is inspected; pure
//!   plugin.rs   what it asks of a plugin that serves networks, and what it is told; pure
//!   setup.rs    our runtime in the engine's settings; pure
//! ```
//!
//! Whatever an engine answers is untrusted: it is bounded, and what cannot be read is an error.

pub mod create;
pub mod engine;
pub mod events;
pub mod inspect;
pub mod plugin;
pub mod proxy;
pub mod setup;
pub mod wish;

pub use self::engine::{Docker, DockerError, Endpoint, Health, Inspected, Runtimes, container_of, is_id};
