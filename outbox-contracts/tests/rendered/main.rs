//! What is made of a lock for others, judged by others: JSON schemas and the AsyncAPI document by a
//! validator, the page by a browser.

mod browser;
mod catalog;
mod documents;
mod page;
mod whole;
