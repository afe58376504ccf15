//! The replicated store: one signed set per owner.

mod parcel;
mod record;
mod set;

pub use self::parcel::{CardRecord, Delta, PART_BYTES_MAX, PARTS_MAX, Part, Tag};
pub use self::record::{
    CONTAINER_MAX_BYTES, Content, Direction, ENDPOINT_ADDRESSES_MAX, ENDPOINT_NAME_MAX_BYTES, ENDPOINT_NAMES_MAX, Edge,
    Endpoint, EndpointId, Record, RecordKey, Session,
};
pub use self::set::{Changes, Draft, SET_BYTES_MAX, SET_RECORDS_MAX, Set, SetError, Version};
