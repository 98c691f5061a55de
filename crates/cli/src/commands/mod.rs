//! One file a group of commands.

pub mod admin;
pub mod audit;
pub mod change;
pub mod cluster;
pub mod datakey;
pub mod decrypt;
pub mod demo;
pub mod dev;
pub mod docs;
pub mod doctor;
pub mod encrypt;
pub mod explain;
pub mod fragment;
pub mod grant;
pub mod inspect;
pub mod key;
pub mod membership;
pub mod node;
pub mod policy;
pub mod principal;
pub mod progress;
pub mod refresh;
pub mod rewrap;
pub mod status;
pub mod tenant;
pub mod usage;
