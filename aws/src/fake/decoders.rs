//! Every decoder of bytes from outside, for those who fuzz them. Each says whether it took the bytes for an answer.

use crate::answers::{autoscaling, ec2, fault, ssm};
use crate::credentials::Credentials;
use crate::identity::Identity;

/// An answer to `DescribeInstances`.
pub fn instances(bytes: &[u8]) -> bool {
    ec2::instances(bytes).is_ok()
}

/// An answer to `DescribeAutoScalingGroups`.
pub fn groups(bytes: &[u8]) -> bool {
    autoscaling::groups(bytes).is_ok()
}

/// An answer to `DescribeAutoScalingInstances`.
pub fn memberships(bytes: &[u8]) -> bool {
    autoscaling::memberships(bytes).is_ok()
}

/// An error, in any shape.
pub fn fault(bytes: &[u8]) -> bool {
    fault::read(bytes).code.is_some()
}

/// An answer to `GetParameter`.
pub fn parameter(bytes: &[u8]) -> bool {
    ssm::parameter(bytes).is_ok()
}

/// An identity document.
pub fn document(bytes: &[u8]) -> bool {
    Identity::of_document(bytes).is_ok()
}

/// The keys of a role.
pub fn keys(bytes: &[u8]) -> bool {
    Credentials::of_role(bytes).is_ok()
}
