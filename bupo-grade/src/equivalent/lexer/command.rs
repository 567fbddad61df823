//! LaTeX commands.

use super::cursor::Lexer;
use crate::equivalent::symbol;
use crate::equivalent::token::{Bracket, Token};

impl Lexer<'_> {
    pub(super) fn command(&mut self) -> Option<()> {
        let rest = &self.rest()[1..];
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        if length == 0 {
            let next = rest.chars().next()?;
            self.at += 1 + next.len_utf8();
            self.escaped(next);
            return Some(());
        }
        let name = &rest[..length];
        self.at += 1 + length;
        match name {
            "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textnormal" | "textsc" | "textup"
            | "textmd" | "textsl" | "mbox" | "hbox" | "emph" | "underline" => {
                let argument = self.text_argument()?;
                self.prose(argument)
            }
            "mathrm" | "operatorname" | "mathit" | "mathsf" | "mathtt" | "mathnormal" | "rm" | "bf" | "it" => {
                self.upright(name)
            }
            "mathbf" | "boldsymbol" | "bm" | "pmb" | "vec" | "overrightarrow" | "mathop" | "boxed" => {
                let argument = self.argument()?;
                if argument.len() > 1 && argument.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                    self.push(Token::Word(argument.to_owned()));
                    return Some(());
                }
                self.inside(argument)
            }
            "mathbb" | "mathcal" | "mathfrak" | "frak" | "mathscr" | "Bbb" | "hat" | "widehat" | "bar" | "tilde"
            | "widetilde" | "dot" | "ddot" | "overline" | "overparen" | "overset" | "underset" => self.decorated(name),
            "begin" | "end" => {
                let environment = self.argument()?.trim_end_matches('*').to_owned();
                if name == "begin" && environment == "array" {
                    self.argument()?;
                }
                let bracket = Bracket::Environment(environment);
                self.push(if name == "begin" { Token::Open(bracket) } else { Token::Close(bracket) });
                Some(())
            }
            "left" | "right" => {
                // `\left.` is a bracket that is not drawn.
                if self.rest().trim_start().starts_with('.') {
                    self.at = self.text.len() - self.rest().trim_start().len() + 1;
                }
                Some(())
            }
            "hspace" | "vspace" | "phantom" | "hphantom" | "vphantom" | "label" | "tag" | "color" | "textcolor"
            | "colorbox" | "require" | "enclose" | "raisebox" | "scalebox" | "style" | "class" | "cssId" | "href" => {
                self.at += usize::from(self.rest().starts_with('*'));
                self.argument()?;
                Some(())
            }
            "fcolorbox" => {
                self.argument()?;
                self.argument().map(|_| ())
            }
            "bbox" => {
                self.skip_option();
                Some(())
            }
            "kern" | "mkern" | "hskip" | "mskip" | "vskip" => {
                self.skip_length();
                Some(())
            }
            _ => {
                match symbol::command(name) {
                    Some(tokens) => tokens.into_iter().for_each(|token| self.push(token)),
                    None => self.push(Token::Command(name.to_owned())),
                }
                Some(())
            }
        }
    }

    /// `\mathbb{R}`, `\hat{y}`: a name of its own. A bar over digits after a decimal point repeats them.
    pub(super) fn decorated(&mut self, name: &str) -> Option<()> {
        let argument = self.argument()?.trim();
        let number = !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if number && matches!(name, "mathbb" | "mathcal" | "mathfrak" | "frak" | "mathscr" | "Bbb") {
            return self.inside(argument);
        }
        let digits = argument.bytes().all(|byte| byte.is_ascii_digit());
        if matches!(name, "overline" | "bar" | "dot") && self.after_number() && digits && !self.space {
            self.push(Token::Repeating(argument.to_owned()));
            return Some(());
        }
        let style = match name {
            "mathbb" | "Bbb" => "bb",
            "frak" => "mathfrak",
            "widehat" => "hat",
            "widetilde" => "tilde",
            "overline" | "bar" => "bar",
            name => name,
        };
        let content: String = argument.split_whitespace().collect();
        let name = match (style, content.as_str()) {
            // The order of growth is written with either.
            ("mathcal", "O") => content,
            _ => format!("{style} {content}"),
        };
        self.push(Token::Name(name));
        Some(())
    }
}
