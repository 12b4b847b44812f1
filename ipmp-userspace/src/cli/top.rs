//! `ipmpctl top`: groups, members, traffic, round-trip times and events, live, in a terminal.

mod model;
mod view;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::{
    error::Error,
    monitor,
    output::{Format, one_line},
    verb::{Command, Invocation, Outcome, connect},
};
use crate::control::{Client, GroupReport, Request, client, monitor::EventRecord, probes::ProbeReport};
use model::{Model, Question};
use view::Glyphs;

/// Between two pictures, at least: events come in bursts, and a line may be slow.
const PICTURE: Duration = Duration::from_millis(200);
/// Until a daemon that does not reply is contacted again.
const PAUSE: Duration = Duration::from_secs(1);

/// Show members, traffic, round-trip times and events live; take members offline and online by keys
///
/// Only changes are sent to the terminal, so that it works over a slow line; --interval makes them fewer. It needs a terminal of 60
/// columns and 12 lines, and shows more in a larger one. Keys: up and down select a member, Tab selects a group, o takes the
/// member offline and i online after a confirmation, q quits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ipmpctl top\n  ipmpctl top production0 --interval 5")]
pub struct Top {
    /// Group interface, group name or member that is selected at first [default: the first group]
    name: Option<String>,
    /// Time between two readings of the counters
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    interval: u16,
}

/// What changes the picture.
enum Message {
    Groups(Instant, Vec<GroupReport>),
    Event(Box<EventRecord>),
    Probe(Box<ProbeReport>),
    /// The daemon does not reply.
    Unreachable(String),
    /// What an offline or online led to.
    Result(String),
    Key(KeyCode),
    Resized,
    End,
}

impl Command for Top {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        if invocation.format == Format::Json {
            return Err(Error::Usage(
                "top draws on a terminal: ipmpctl show --json and ipmpctl monitor --json print its data"
                    .into(),
            ));
        }
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Error::Usage(
                "top needs a terminal: ipmpctl show and ipmpctl monitor print the same without one".into(),
            ));
        }
        let mut client = connect(invocation.socket, invocation.netns, false)?;
        let mut model = Model::new(client.groups()?, Instant::now());
        if let Some(name) = &self.name
            && !model.select(name)
        {
            // The daemon knows what to say about the name.
            client.call(&Request::Show { name: Some(name.clone()) })?;
        }
        let (sender, messages) = mpsc::channel();
        // Before the first thread, so that all have them blocked: the terminal is restored at the end.
        end_by_signal(sender.clone()).map_err(Error::Output)?;
        let mut terminal = ratatui::try_init().map_err(Error::Output)?;
        watch(client, invocation.socket, Duration::from_secs(self.interval.into()), &sender);
        let glyphs = Glyphs::of_locale(|name| std::env::var(name).ok());
        let result = run(&mut model, &messages, |change| {
            match change {
                Change::Picture(model) => {
                    terminal.draw(|frame| view::draw(frame, model, glyphs))?;
                }
                Change::Member(question) => make_change(invocation, question, &sender),
            }
            Ok(())
        });
        ratatui::restore();
        result.map_err(Error::Output)?;
        Ok(Outcome::done(String::new()))
    }
}

/// What the loop has done.
enum Change<'a> {
    /// There is a new picture.
    Picture(&'a Model),
    /// The operator has confirmed it.
    Member(Question),
}

/// Handles messages until one of them ends it.
fn run(
    model: &mut Model,
    messages: &Receiver<Message>,
    mut handle: impl FnMut(Change<'_>) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        handle(Change::Picture(model))?;
        let drawn = Instant::now();
        let Ok(mut message) = messages.recv() else { return Ok(()) };
        loop {
            // What an operator does is shown at once.
            let is_urgent = matches!(message, Message::Key(_) | Message::Resized | Message::Result(_));
            match update(model, message) {
                Next::Go => {}
                Next::Change(question) => handle(Change::Member(question))?,
                Next::End => return Ok(()),
            }
            if is_urgent {
                break;
            }
            match messages.recv_timeout(PICTURE.saturating_sub(drawn.elapsed())) {
                Ok(next) => message = next,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// What follows from a message.
#[derive(Debug, PartialEq)]
enum Next {
    Go,
    Change(Question),
    End,
}

fn update(model: &mut Model, message: Message) -> Next {
    match message {
        Message::Groups(at, groups) => model.read(groups, at),
        Message::Event(event) => model.record_event(*event),
        Message::Probe(probe) => model.record_probe(&probe),
        Message::Unreachable(line) => model.unreachable = Some(line),
        Message::Result(line) => model.status = Some(line),
        Message::Resized => {}
        Message::End => return Next::End,
        Message::Key(key) => return press(model, key),
    }
    Next::Go
}

fn press(model: &mut Model, key: KeyCode) -> Next {
    model.status = None;
    if let Some(question) = model.question.take() {
        return match key {
            KeyCode::Char('y') => Next::Change(question),
            _ => {
                model.status = Some("Nothing has been changed".into());
                Next::Go
            }
        };
    }
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return Next::End,
        KeyCode::Up | KeyCode::Char('k') => model.move_selection(-1),
        KeyCode::Down | KeyCode::Char('j') => model.move_selection(1),
        KeyCode::Tab | KeyCode::Right => model.move_group(1),
        KeyCode::BackTab | KeyCode::Left => model.move_group(-1),
        KeyCode::Char('o') => model.question = model.selected_member().map(Question::offline),
        KeyCode::Char('i') => model.question = model.selected_member().map(Question::online),
        _ => {}
    }
    Next::Go
}

/// Makes a change without keeping the picture: it may take a while.
fn make_change(invocation: &Invocation<'_>, question: Question, sender: &Sender<Message>) {
    let (socket, sender) = (invocation.socket.to_owned(), sender.clone());
    thread::spawn(move || {
        let reply = connect(&socket, None, false).and_then(|mut client| {
            super::pending::refuse_if_pending(&socket)?;
            Ok(client.call(&question.request())?)
        });
        let line = match reply {
            Ok(crate::control::Response::Done { notes, .. }) if !notes.is_empty() => notes.join("; "),
            Ok(_) => question.done(),
            Err(error) => error.to_string(),
        };
        // The loop may have ended.
        let _ = sender.send(Message::Result(one_line(&line)));
    });
}

/// Starts the threads that read from the daemon and from the terminal.
fn watch(mut client: Client, socket: &Path, interval: Duration, sender: &Sender<Message>) {
    let (path, reports) = (socket.to_owned(), sender.clone());
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            let groups = client.groups().or_else(|_| {
                client = Client::connect(&path)?;
                client.groups()
            });
            let message = match groups {
                Ok(groups) => Message::Groups(Instant::now(), groups),
                Err(error) => Message::Unreachable(one_line(&error.to_string())),
            };
            if reports.send(message).is_err() {
                return;
            }
        }
    });
    let (path, events) = (socket.to_owned(), sender.clone());
    thread::spawn(move || {
        monitor::follow(&path, |event| {
            let _ = events.send(Message::Event(Box::new(event.clone())));
        })
    });
    let (path, probes) = (socket.to_owned(), sender.clone());
    thread::spawn(move || {
        loop {
            let ended = follow_probes(&path, &probes);
            log::debug!("{ended:?}; contacted again in {PAUSE:?}");
            thread::sleep(PAUSE);
        }
    });
    let keys = sender.clone();
    thread::spawn(move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
                Ok(Event::Key(key)) => match (key.code, key.modifiers) {
                    (KeyCode::Char('c' | 'd'), KeyModifiers::CONTROL) => Message::End,
                    (code, _) => Message::Key(code),
                },
                Ok(Event::Resize(..)) => Message::Resized,
                Ok(_) => continue,
                // The terminal was closed.
                Err(_) => Message::End,
            };
            if keys.send(message).is_err() {
                return;
            }
        }
    });
}

fn follow_probes(socket: &Path, sender: &Sender<Message>) -> Result<(), client::Error> {
    let mut probes = Client::connect(socket)?.probes(None)?;
    loop {
        if let Some(probe) = probes.wait()?.probe {
            let _ = sender.send(Message::Probe(Box::new(probe)));
        }
    }
}

/// Has a signal end the loop, which then restores the terminal.
fn end_by_signal(sender: Sender<Message>) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            let _ = sender.send(Message::End);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::sample;

    fn model() -> Model {
        Model::new(vec![sample()], Instant::now())
    }

    #[test]
    fn member_goes_offline_only_after_confirmation() {
        let mut model = model();
        assert_eq!(press(&mut model, KeyCode::Down), Next::Go);
        assert_eq!(press(&mut model, KeyCode::Char('o')), Next::Go);
        assert_eq!(press(&mut model, KeyCode::Char('n')), Next::Go);
        assert_eq!(model.status.as_deref(), Some("Nothing has been changed"));
        assert_eq!(press(&mut model, KeyCode::Char('y')), Next::Go, "there is no question");
        press(&mut model, KeyCode::Char('o'));
        let Next::Change(question) = press(&mut model, KeyCode::Char('y')) else {
            panic!("it was confirmed")
        };
        assert_eq!(question.request(), Request::Offline { interface: "e1000g1".into() });
        press(&mut model, KeyCode::Char('i'));
        let Next::Change(question) = press(&mut model, KeyCode::Char('y')) else {
            panic!("it was confirmed")
        };
        assert_eq!(question.request(), Request::Online { interface: "e1000g1".into() });
        press(&mut model, KeyCode::Char('o'));
        assert_eq!(press(&mut model, KeyCode::Char('q')), Next::Go, "the question is answered with no");
        assert_eq!(press(&mut model, KeyCode::Char('q')), Next::End);
    }

    #[test]
    fn messages_are_handled_until_one_ends_the_loop() {
        let (sender, messages) = mpsc::channel();
        for key in [KeyCode::Char('o'), KeyCode::Char('y'), KeyCode::Char('x')] {
            sender.send(Message::Key(key)).unwrap();
        }
        sender.send(Message::Unreachable("it does not reply".into())).unwrap();
        sender.send(Message::Groups(Instant::now(), vec![])).unwrap();
        sender.send(Message::End).unwrap();
        let (mut pictures, mut changes) = (0, Vec::new());
        let mut model = model();
        run(&mut model, &messages, |change| {
            match change {
                Change::Picture(_) => pictures += 1,
                Change::Member(question) => changes.push(question.request()),
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(changes, [Request::Offline { interface: "e1000g0".into() }]);
        assert_eq!(pictures, 4, "one at first and one after each key; the rest comes at once");
        assert_eq!(model.unreachable, None, "the last report is newer");
    }
}
