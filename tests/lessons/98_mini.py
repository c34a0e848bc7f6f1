# %% [markdown]
# # 98 Mini: does the house stand?
# The smallest lesson that uses everything the machinery offers. Only tests build it.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %%
sizes = session.choose(steps=(20, 400, 2_000), rows=(2, 3, 4))
sizes

# %%
from course_utils import plotting
from course_utils.checks import _outcome

# %%
ax = plotting.bars(["one", "two"], [0.2, 0.8], chance=0.1)
ax.set_title(f"Two is larger after {sizes.steps} steps on {sizes.rows} rows")
plotting.show(ax, alt="Two bars: one at 0.2, two at 0.8, chance at 0.1.")


# %%
@_outcome.exercise("98", "98.1")
def check_double(answer):
    """double(x) of an integer."""
    _outcome.expect(_outcome.run(answer, 3) != 9, "This squares: multiply by two.")
    _outcome.expect(_outcome.run(answer, 3) == 6, "Twice three is six.")


# %%
@_outcome.exercise("98", "98.2")
def check_seven(answer):
    """The number of days in a week."""
    _outcome.expect(answer == 7, "A week has another number of days.")


# %% [markdown]
# ### Exercise 98.1: twice
# Difficulty 1 of 3, about 2 minutes.


# %% tags=["exercise"]
def double(x):
    """Twice x."""
    # BEGIN SOLUTION
    return 2 * x
    # END SOLUTION


# %% tags=["check"]
check_double(double)

# %% [markdown]
# ### Exercise 98.2: days
# Difficulty 2 of 3, about 1 minute.
#
# How many days has a week?

# %% tags=["exercise"]
answer = ...
# BEGIN SOLUTION
answer = 7
# END SOLUTION

# %% tags=["check"]
check_seven(answer)

# %% tags=["nbval-check-output"]
print("The same in every profile.")

# %%
record("plain/recall_at_1", 0.9 + SEED / 1000, interval=(0.8, 0.95), chance=0.001)

# %% tags=["solution"]
print("Only the solved notebook says this.")
