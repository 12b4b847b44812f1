//! What every verb does: build a request, and print the reply.

use std::io::Write;

use super::{
    error::Error,
    output::{self, Format},
};
use crate::control::{Client, Request, Response};

/// A verb with its arguments.
pub(super) trait Verb {
    /// Checks the arguments.
    fn request(&self) -> Result<Request, Error>;

    /// Sends the request; returns what is to be printed.
    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let response = client.call(&request)?;
        Ok(self.print(response, format))
    }

    /// What is printed of the reply: the notes, unless the verb has a reply of its own.
    fn print(&self, response: Response, format: Format) -> String {
        match response {
            Response::Done(notes) => output::notes(&notes, format),
            // The client returns the reply that belongs to the request.
            _ => String::new(),
        }
    }
}
