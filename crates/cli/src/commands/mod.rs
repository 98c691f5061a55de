//! One file a group of commands.

pub mod cluster;
pub mod datakey;
pub mod decrypt;
pub mod demo;
pub mod dev;
pub mod docs;
pub mod doctor;
pub mod encrypt;
pub mod fragment;
pub mod inspect;
pub mod key;
pub mod node;
pub mod principal;
pub mod rewrap;
pub mod status;
