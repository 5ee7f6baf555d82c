//! The language of `dhcpd.conf` (dhcpd.conf(5)), as far as hosts and subnets need it.

/// One statement: its words, and what it holds in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Line of its first word, from 1.
    pub(super) line: usize,
    /// Without quotes and commas.
    pub(super) words: Vec<String>,
    /// What is in the braces after the words, if there are any.
    pub(super) block: Option<Vec<Statement>>,
}

/// What is wrong with a file, and on which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) reason: &'static str,
}

/// Deepest nesting; files of people have four levels.
const DEPTH_MAX: usize = 32;

/// All statements of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, ParseError> {
    // Blocks that are open: the words before the brace, and what they hold so far.
    let mut open: Vec<(usize, Vec<String>, Vec<Statement>)> = Vec::new();
    let mut done = Vec::new();
    let (mut words, mut begun) = (Vec::new(), 0);
    for token in tokens(text) {
        let (line, token) = token?;
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    begun = line;
                }
                words.push(word);
            }
            Token::End if words.is_empty() => {}
            Token::End => done.push(Statement {
                line: begun,
                words: std::mem::take(&mut words),
                block: None,
            }),
            Token::Open if open.len() == DEPTH_MAX => {
                let reason = "the braces are nested too deeply";
                return Err(ParseError { line, reason });
            }
            Token::Open => {
                let line = if words.is_empty() { line } else { begun };
                let outer = std::mem::take(&mut done);
                open.push((line, std::mem::take(&mut words), outer));
            }
            Token::Close if !words.is_empty() => {
                let reason = "a semicolon is missing before the closing brace";
                return Err(ParseError { line, reason });
            }
            Token::Close => {
                let Some((begun, words, outer)) = open.pop() else {
                    let reason = "this brace closes nothing";
                    return Err(ParseError { line, reason });
                };
                let block = Some(std::mem::replace(&mut done, outer));
                done.push(Statement {
                    line: begun,
                    words,
                    block,
                });
            }
        }
    }
    if let Some((line, ..)) = open.pop() {
        let reason = "this brace is not closed";
        return Err(ParseError { line, reason });
    }
    if !words.is_empty() {
        let reason = "a semicolon is missing at the end";
        return Err(ParseError {
            line: begun,
            reason,
        });
    }
    Ok(done)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

fn tokens(text: &str) -> impl Iterator<Item = Result<(usize, Token), ParseError>> {
    let mut rest = text.chars().peekable();
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let c = rest.next()?;
            line += usize::from(c == '\n');
            let token = match c {
                ';' => Token::End,
                '{' => Token::Open,
                '}' => Token::Close,
                '#' => {
                    while rest.next_if(|&c| c != '\n').is_some() {}
                    continue;
                }
                '"' => match quoted(&mut rest, &mut line) {
                    Ok(word) => Token::Word(word),
                    Err(error) => return Some(Err(error)),
                },
                // Commas part the values of one option.
                c if c.is_whitespace() || c == ',' => continue,
                c => {
                    let mut word = String::from(c);
                    let ends = |c: char| c.is_whitespace() || ";{},\"#".contains(c);
                    while let Some(c) = rest.next_if(|&c| !ends(c)) {
                        word.push(c);
                    }
                    Token::Word(word)
                }
            };
            return Some(Ok((line, token)));
        }
    })
}

fn quoted(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    line: &mut usize,
) -> Result<String, ParseError> {
    let begun = *line;
    let mut word = String::new();
    while let Some(c) = rest.next() {
        *line += usize::from(c == '\n');
        match c {
            '"' => return Ok(word),
            '\\' => word.extend(rest.next()),
            c => word.push(c),
        }
    }
    Err(ParseError {
        line: begun,
        reason: "a quote is not closed",
    })
}
