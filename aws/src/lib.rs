//! AWS, as far as peers are found by it: values in, values out. It knows nothing of the mesh, and decides nothing.
//!
//! ```text
//!   settings.rs     where AWS is and by whose keys it is asked: AWS's own variables
//!   imds.rs         who this instance is, and the keys of its role             ┐
//!   client.rs       one signed call, repeated where a clock or keys are old    │ the only I/O, all of it
//!   http.rs         one request, one answer, one connection                    ┘ through http.rs
//!   calls.rs        the questions; pages put together
//!   cloud.rs        the calls that make a listing
//!   answers.rs      what is answered: XML (xml.rs), JSON                       ┐
//!   listing.rs      who is in the group of this instance, and in which state   │
//!   sign.rs         Signature Version 4                                        │ pure
//!   problem.rs      what went wrong, in one line with the remedy               ┘
//! ```
//!
//! Invariants: whatever is answered is untrusted, bounded in size and time, and either whole or an error; secrets are in no
//! log and no `Debug`; an absence is told from an answer that is cut short ([`Listing::complete`]).

#![forbid(unsafe_code)]

mod answers;
mod calls;
mod client;
mod cloud;
mod credentials;
#[cfg(feature = "fake")]
pub mod fake;
mod http;
mod identity;
mod imds;
mod listing;
mod problem;
mod settings;
mod sign;
mod time;
mod xml;

pub use self::cloud::Cloud;
pub use self::credentials::Secret;
pub use self::http::InvalidEndpoint;
pub use self::identity::{Identity, InstanceId, InvalidInstanceId};
pub use self::imds::Presence;
pub use self::listing::{Instance, InstanceState, Lifecycle, Listing, Scope, Stage};
pub use self::problem::{Call, Kind, Problem};
pub use self::settings::{InvalidSettings, Settings};
