package main

import (
	"github.com/spf13/cobra"
)

func newCompletionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of bash, zsh or fish",
		Long: `Print the completion script of bash, zsh or fish. Names of services and backends come from the daemon.

  bash   sluice completion bash > /etc/bash_completion.d/sluice
  zsh    sluice completion zsh > "${fpath[1]}/_sluice"
  fish   sluice completion fish > ~/.config/fish/completions/sluice.fish`,
		Args:              arguments,
		ValidArgsFunction: cobra.FixedCompletions([]string{"bash", "zsh", "fish"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.stdout)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			}
			return usageError("%q is no known shell (known: bash, zsh, fish)", args[0])
		},
	}
}
