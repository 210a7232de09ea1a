//! Aggregates that are reduced where chunks are decoded: the same answers in every way of computing them, what is
//! promised of missing and packed values, what EXPLAIN shows, and what happens when there is too little of something.

mod equality;
mod limits;
mod plans;
mod requests;
mod semantics;
mod statements;

use hyperslab::Session;

use crate::common::session;

/// A session with settings.
async fn with(settings: &[&str]) -> Session {
    let session = session();
    for setting in settings {
        session.sql(&format!("SET {setting}")).await.unwrap();
    }
    session
}
