//! Puts the bound of values into a template's syntax tree: every value passes it before it is kept or worked on.
//!
//! A variable, and what is read from one, has passed when it was set, so it passes again only where the work done on
//! it is not paid for otherwise.

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt};

/// The name of the bound's filter, which no template can write.
pub(super) const BOUND: &str = "#bound";

/// Filters whose work does not grow with the value.
const CHEAP_FILTERS: [&str; 6] = ["count", "d", "default", "first", "last", "length"];

/// Tests that look at no more than what a value is.
const CHEAP_TESTS: [&str; 16] = [
    "boolean",
    "callable",
    "defined",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "sameas",
    "safe",
    "sequence",
    "string",
    "true",
    "undefined",
];

/// A tree with the bound in it, or the construct that has no place in a chat template.
pub(super) fn template<'a>(tree: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    stmt(tree)
}

fn body<'a>(stmts: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, &'static str> {
    stmts.iter().map(stmt).collect()
}

fn stmt<'a>(node: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    Ok(match node {
        Stmt::Template(s) => Stmt::Template(with(s, ast::Template { children: body(&s.children)? })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(with(s, ast::EmitExpr { expr: kept(&s.expr) })),
        Stmt::EmitRaw(s) => Stmt::EmitRaw(with(s, ast::EmitRaw { raw: s.raw })),
        Stmt::ForLoop(s) => Stmt::ForLoop(with(
            s,
            ast::ForLoop {
                target: inner(&s.target),
                iter: kept(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(inner),
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(with(
            s,
            ast::IfCond { expr: kept(&s.expr), true_body: body(&s.true_body)?, false_body: body(&s.false_body)? },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(target, value)| (inner(target), kept(value))).collect();
            Stmt::WithBlock(with(s, ast::WithBlock { assignments, body: body(&s.body)? }))
        }
        Stmt::Set(s) => {
            let expr = match (&s.target, &s.expr) {
                // A namespace may have a name, but be in nothing else.
                (Expr::Var(_), Expr::Call(c)) if matches!(&c.expr, Expr::Var(f) if f.id == "namespace") => {
                    inner(&s.expr)
                }
                (Expr::Var(_), _) => kept(&s.expr),
                _ => paid(&s.expr),
            };
            Stmt::Set(with(s, ast::Set { target: inner(&s.target), expr }))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(inner);
            Stmt::SetBlock(with(s, ast::SetBlock { target: inner(&s.target), filter, body: body(&s.body)? }))
        }
        Stmt::FilterBlock(s) => Stmt::FilterBlock(with(
            s,
            ast::FilterBlock { filter: inner(&s.filter), filter_span: s.filter_span, body: body(&s.body)? },
        )),
        Stmt::Macro(s) => Stmt::Macro(macro_decl(s)?),
        Stmt::CallBlock(s) => Stmt::CallBlock(with(
            s,
            ast::CallBlock {
                call: call(&s.call),
                call_expr_span: s.call_expr_span,
                macro_decl: macro_decl(&s.macro_decl)?,
            },
        )),
        Stmt::Continue(s) => Stmt::Continue(with(s, ast::Continue)),
        Stmt::Break(s) => Stmt::Break(with(s, ast::Break)),
        Stmt::Do(s) => Stmt::Do(with(s, ast::Do { call: call(&s.call) })),
        Stmt::AutoEscape(_) => return Err("it sets `autoescape`, but a prompt is never escaped"),
    })
}

fn macro_decl<'a>(node: &Spanned<ast::Macro<'a>>) -> Result<Spanned<ast::Macro<'a>>, &'static str> {
    let args = node.args.iter().map(inner).collect();
    let defaults = node.defaults.iter().map(kept).collect();
    Ok(with(node, ast::Macro { name: node.name, args, defaults, body: body(&node.body)? }))
}

/// An expression whose value is kept: it passes the bound, unless it has passed before.
fn kept<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => inner(node),
        _ => paid(node),
    }
}

/// An expression whose value is worked on: it passes the bound, which pays for the work.
fn paid<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Const(_) | Expr::Compare(_) | Expr::Test(_) => inner(node),
        _ => {
            let filter = ast::Filter { name: BOUND, expr: Some(inner(node)), args: Vec::new() };
            Expr::Filter(Spanned::new(filter, node.span()))
        }
    }
}

/// The expression itself, with the bound around its parts.
fn inner<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Var(s) => Expr::Var(with(s, ast::Var { id: s.id })),
        Expr::Const(s) => Expr::Const(with(s, ast::Const { value: s.value.clone() })),
        Expr::Slice(s) => {
            let part = |part: &Option<Expr<'a>>| part.as_ref().map(inner);
            let (start, stop, step) = (part(&s.start), part(&s.stop), part(&s.step));
            Expr::Slice(with(s, ast::Slice { expr: kept(&s.expr), start, stop, step }))
        }
        Expr::UnaryOp(s) => {
            let negates = matches!(s.op, ast::UnaryOpKind::Neg);
            let op = if negates { ast::UnaryOpKind::Neg } else { ast::UnaryOpKind::Not };
            Expr::UnaryOp(with(s, ast::UnaryOp { op, expr: kept(&s.expr) }))
        }
        Expr::BinOp(s) => Expr::BinOp(with(s, bin_op(s))),
        Expr::Compare(s) => Expr::Compare(with(s, compare(s))),
        Expr::IfExpr(s) => Expr::IfExpr(with(
            s,
            ast::IfExpr {
                test_expr: kept(&s.test_expr),
                true_expr: inner(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(inner),
            },
        )),
        Expr::Filter(s) => {
            let operand = if CHEAP_FILTERS.contains(&s.name) { kept } else { paid };
            let filter = ast::Filter { name: s.name, expr: s.expr.as_ref().map(operand), args: call_args(&s.args) };
            Expr::Filter(with(s, filter))
        }
        Expr::Test(s) => {
            let operand = if CHEAP_TESTS.contains(&s.name) { kept } else { paid };
            Expr::Test(with(s, ast::Test { name: s.name, expr: operand(&s.expr), args: call_args(&s.args) }))
        }
        Expr::GetAttr(s) => Expr::GetAttr(with(s, ast::GetAttr { expr: kept(&s.expr), name: s.name })),
        Expr::GetItem(s) => {
            let get = ast::GetItem { expr: kept(&s.expr), subscript_expr: paid(&s.subscript_expr) };
            Expr::GetItem(with(s, get))
        }
        Expr::Call(s) => Expr::Call(call(s)),
        Expr::List(s) => Expr::List(with(s, ast::List { items: s.items.iter().map(inner).collect() })),
        Expr::Tuple(s) => Expr::Tuple(with(s, ast::Tuple { items: s.items.iter().map(inner).collect() })),
        Expr::Map(s) => {
            let (keys, values) = (s.keys.iter().map(paid).collect(), s.values.iter().map(inner).collect());
            Expr::Map(with(s, ast::Map { keys, values }))
        }
    }
}

fn bin_op<'a>(node: &ast::BinOp<'a>) -> ast::BinOp<'a> {
    let with_const = is_const(&node.left) || is_const(&node.right);
    let operand = |part: &Expr<'a>| match node.op {
        BinOpKind::ScAnd | BinOpKind::ScOr => inner(part),
        // The engine pays for the texts that these make, and the whole of a chain passes where it ends.
        BinOpKind::Add | BinOpKind::Concat => link(part),
        BinOpKind::Eq | BinOpKind::Ne if with_const => kept(part),
        _ => paid(part),
    };
    ast::BinOp { op: node.op, left: operand(&node.left), right: operand(&node.right) }
}

/// A link of a chain of additions.
fn link<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::BinOp(s) if matches!(s.op, BinOpKind::Add | BinOpKind::Concat) => inner(node),
        _ => kept(node),
    }
}

fn compare<'a>(node: &ast::Compare<'a>) -> ast::Compare<'a> {
    let with_const = is_const(&node.expr) || node.ops.iter().any(|op| is_const(&op.expr));
    let one_equality = matches!(node.ops.as_slice(), [op] if matches!(op.op, CompareOpKind::Eq | CompareOpKind::Ne));
    let operand = if with_const && one_equality { kept } else { paid };
    let ops = node.ops.iter().map(|op| ast::CompareOp { op: op.op, expr: operand(&op.expr) }).collect();
    ast::Compare { expr: operand(&node.expr), ops }
}

fn call<'a>(node: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    let expr = match &node.expr {
        Expr::GetAttr(method) => {
            // The method of a value works on the value; those of the loop are told by their names.
            let receiver = if matches!(method.name, "changed" | "cycle") { kept } else { paid };
            Expr::GetAttr(with(method, ast::GetAttr { expr: receiver(&method.expr), name: method.name }))
        }
        expr => inner(expr),
    };
    with(node, ast::Call { expr, args: call_args(&node.args) })
}

fn call_args<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let arg = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(paid(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, paid(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(paid(expr)),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(paid(expr)),
    };
    args.iter().map(arg).collect()
}

fn is_const(node: &Expr<'_>) -> bool {
    matches!(node, Expr::Const(_))
}

fn with<T, U>(old: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, old.span())
}
